"""The house: ruff agrees, the lock is whole, and every place that repeats a version says the same."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import taut

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK_TEXT = (ROOT / "requirements.lock").read_text(encoding="utf-8")
LOCK = [Requirement(line.split("#")[0]) for line in LOCK_TEXT.splitlines() if re.match(r"[A-Za-z0-9]", line)]
PYTHONS = ("3.11", "3.12", "3.13")


@pytest.mark.parametrize("command", [("check",), ("format", "--check", "--diff")], ids=["check", "format"])
def test_ruff_agrees(command: tuple[str, ...]):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"`make format` mends most of this:\n{done.stdout[-5000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_the_lock_has_one_version_of_every_dependency(python: str, system: str):
    place = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system}
    pins = {}
    for pin in LOCK:
        if pin.marker is None or pin.marker.evaluate(place):
            name = canonicalize_name(pin.name)
            assert name not in pins, f"{name} is pinned twice"
            pins[name] = str(pin.specifier).removeprefix("==")
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + [
        entry for key in extras if key not in ("bench", "nuts") for entry in extras[key]
    ]
    for entry in map(Requirement, wanted):
        if entry.name != "taut":
            version = pins[canonicalize_name(entry.name)]
            assert entry.specifier.contains(version), f"{entry} is locked at {version}: run `make lock`"


def test_the_lock_names_no_host():
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", LOCK_TEXT)


def test_pre_commit_runs_the_locked_ruff():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    locked = next(str(pin.specifier) for pin in LOCK if pin.name == "ruff").removeprefix("==")
    assert re.search(rf"ruff-pre-commit\n\s+rev: v{re.escape(locked)}\n", hooks)


def test_taut_knows_its_version():
    assert taut.__version__ == PROJECT["version"]


def test_the_pythons_are_the_same_everywhere():
    low, high = PYTHONS[0], f"3.{int(PYTHONS[-1].split('.')[1]) + 1}"
    assert PROJECT["requires-python"] == f">={low},<{high}"
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    listed = ", ".join(f'"{python}"' for python in PYTHONS)
    assert f"python: [{listed}]" in workflow
    assert {f"Programming Language :: Python :: {python}" for python in PYTHONS} <= set(PROJECT["classifiers"])
