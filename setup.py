"""The C extension.  Everything else is in setup.cfg."""

from setuptools import Extension, setup

# Without a compiler the package is installed without the extension, and the Python code does its work.
setup(ext_modules=[Extension("txvalkeycluster._fast", ["txvalkeycluster/_fast.c"], optional=True)])
