"""The operator: looks after the queue and the indices, chooses the number of indexers, and explains each decision."""
