"""The foundation of hitcounter: what the API, the indexer and the operator share.

It knows the hits and their rules, the stream that queues them and the indices that keep them. It knows no service,
no web framework and no operator framework; services import it, never the other way round.
"""

__version__ = "0.1.0"
