"""The operator against a real API server, a real Redis and a real Elasticsearch."""
