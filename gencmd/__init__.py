"""Generates the table of commands and the typed methods.  Run it with ``python -m gencmd``."""
