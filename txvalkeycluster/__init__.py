"""A Twisted client for Valkey Cluster."""
