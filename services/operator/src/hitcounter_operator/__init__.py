"""The operator: manages the queue and the indices, scales the indexers, and explains each decision."""
