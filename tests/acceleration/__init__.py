"""The C extension: it gives the same results as the Python code, and can be switched off."""
