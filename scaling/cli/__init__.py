"""The command line; the only module that may import everything, and then only inside a verb."""

from scaling.cli.app import main

__all__ = ["main"]
