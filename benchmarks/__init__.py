"""Every client side by side on one cluster, in one run: ``python -m benchmarks --help``."""
