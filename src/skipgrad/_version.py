"""The version, read by the build and shown by `skipgrad --version`."""

__version__ = "0.2.0"
