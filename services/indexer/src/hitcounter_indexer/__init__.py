"""The indexer: takes entries from the stream, writes their hits into Elasticsearch, settles them."""
