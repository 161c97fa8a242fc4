"""Eight schools by taut and by NumPyro's AutoNormal: the programs that `benchmarks.cold` times in fresh processes."""
