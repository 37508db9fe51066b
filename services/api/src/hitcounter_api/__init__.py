"""The HTTP API of hitcounter: takes hits into the stream, reads counts from the indices.

It knows nothing of the indexer: between the two there are only the stream and the indices of the foundation.
"""
