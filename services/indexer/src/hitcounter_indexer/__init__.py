"""The indexer: reads entries from the stream, writes their hits to Elasticsearch, and settles the entries."""
