"""The C extension.  Everything else is in setup.cfg."""

from glob import glob

from setuptools import Extension, setup

extension = Extension(
    "txvalkeycluster._fast",
    sorted(glob("extension/*.c")),
    depends=["extension/fast.h"],
    extra_compile_args=["-fvisibility=hidden"],
    # Without a compiler the package is installed without the extension, and the Python code does its work.
    optional=True,
)
setup(ext_modules=[extension])
