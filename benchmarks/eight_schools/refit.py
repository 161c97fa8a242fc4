"""Two fits in one process, the second on new data of the same shapes: its seconds and its compilations as JSON."""

import json
import time

import taut
from benchmarks.eight_schools.taut_schools import schools, sigma, y


def seconds_and_compilations(data: dict) -> tuple[float, int]:
    """Time one fit."""
    begun = time.perf_counter()
    fit = taut.fit(schools, data)
    return time.perf_counter() - begun, fit.compilations


if __name__ == "__main__":
    first, _ = seconds_and_compilations({"sigma": sigma, "y": y})
    second, compiled = seconds_and_compilations({"sigma": sigma[::-1] + 1.0, "y": 0.5 * y - 3.0})
    print(json.dumps({"first": first, "second": second, "compilations": compiled}), flush=True)
