"""What several levels share: a whole installation on real parts, a client that keeps its own record, a faulty wire."""
