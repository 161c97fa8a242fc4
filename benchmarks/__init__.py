"""Measurements: speed and accuracy of `taut.fit` on real posteriors. Run with ``python -m benchmarks.<name>``."""
