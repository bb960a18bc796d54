"""Generates the command table and the typed methods: ``python -m gencmd path/to/valkey/src/commands``."""
