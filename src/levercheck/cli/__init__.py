"""The command line: one module per command group; each parses, calls and prints."""

from levercheck.cli.app import main

__all__ = ["main"]
