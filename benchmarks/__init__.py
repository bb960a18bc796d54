"""Measures this client and others side by side on one cluster: ``python -m benchmarks --help``."""
