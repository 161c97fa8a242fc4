"""The log evidence of problems for which it is known."""
