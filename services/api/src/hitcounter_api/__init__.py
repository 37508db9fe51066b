"""The HTTP API of hitcounter: adds hits to the stream, and reads counts from the indices.

It does not know the indexer. The two share only the stream and the indices.
"""
