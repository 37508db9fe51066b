"""The shared library of hitcounter, used by the API, the indexer and the operator.

It contains the rules of a hit, the stream that queues hits and the indices that store them. It imports no service, no
web framework and no operator framework. Services import it, never the other way round.
"""

__version__ = "0.1.0"
