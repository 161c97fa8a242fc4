"""Posteriors with reference draws (posteriordb), written with taut's primitives and compared with their reference."""
