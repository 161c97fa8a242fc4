"""A run that is killed goes on from its file, bit for bit; a file of another run is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taut
from taut import dist
from taut._errors import TautError
from taut.algorithms import SVI
from taut.data import Batches

N = 103
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 2))
Y = X @ np.array([1.0, -0.5]) + RNG.standard_normal(N)

KILLS = 20


def model(x: Any, y: Any) -> None:
    w = taut.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def run(path: Any = None, key: int = 0, data: Any = None, **options: Any) -> taut.Fit:
    checkpoint = None if path is None else taut.Checkpoint(path, seconds=0.0)
    batches = Batches(dict(x=X, y=Y) if data is None else data, size=10, plate="rows")
    guide = options.pop("guide", taut.guides.MeanField())
    # No tolerance is ever reached: the run ends on its budget, wherever it was cut.
    svi = SVI(steps=options.pop("steps", 1600), chunk=5, tolerance=0.0)
    return taut.fit(model, batches, guide=guide, algorithm=svi, key=key, checkpoint=checkpoint, verify=False, draws=400)


def bits(fit: taut.Fit) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in fit.state] + [fit.history.tobytes()]


KILLER = """
import os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
import test_checkpoint as t
path, kills = sys.argv[2], int(sys.argv[3])

def child(work):
    # Nothing has run on JAX's devices yet, so that a fork is sound; each child begins as a new process would.
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid

def written():
    return os.stat(path).st_mtime_ns if os.path.exists(path) else 0

random.seed(0)
killed = 0
for _ in range(kills):
    before = written()
    pid = child(lambda: t.run(path))
    while written() == before and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(random.random() * 0.1)
    os.kill(pid, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])

def keep(name, checkpoint):
    import pickle
    with open(name, "wb") as file:
        pickle.dump(t.bits(t.run(checkpoint)), file)

os.waitpid(child(lambda: keep(path + ".resumed", path)), 0)
os.waitpid(child(lambda: keep(path + ".whole", None)), 0)
print(killed)
"""


@pytest.mark.filterwarnings("ignore:os.fork")
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path: Path):
    path = tmp_path / "run.state"
    arguments = [sys.executable, "-W", "ignore", "-c", KILLER, str(Path(__file__).parent), str(path), str(KILLS)]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    found = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert found.stdout.strip() == str(KILLS), found.stdout + found.stderr
    resumed, whole = (pickle.loads(Path(f"{path}.{name}").read_bytes()) for name in ("resumed", "whole"))
    assert resumed == whole
    assert not list(tmp_path.glob(".taut-*.tmp")) or len(list(tmp_path.glob(".taut-*.tmp"))) <= KILLS


@pytest.mark.parametrize(
    "change, what",
    [
        (dict(key=1), "key was 0, is 1"),
        (dict(data=dict(x=X, y=Y + 1.0)), "data was"),
        (dict(guide=taut.guides.FullRank()), "guide was MeanField, is FullRank"),
    ],
)
def test_the_file_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], what: str):
    path = tmp_path / "run.state"
    run(path, steps=10)
    with pytest.raises(TautError) as refused:
        run(path, **change)
    assert refused.value.code == "bad-combination" and what in str(refused.value)
