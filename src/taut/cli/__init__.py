"""The command line: fit a model in a file, show a saved fit, say what is installed."""

from taut.cli._main import main

__all__ = ["main"]
