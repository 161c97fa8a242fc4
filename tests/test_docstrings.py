"""Every public name has a docstring, and every example in a docstring does what it says."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taut

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
FILES = {
    ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(SOURCE.rglob("*.py"))
    if file.name != "__main__.py"  # importing it runs the command line
}
ROOMS = [name for name in FILES if not any(part.startswith("_") for part in name.split("."))]


def public(module: ModuleType) -> dict[str, Any]:
    """What a room offers and taut itself wrote: re-exports of other libraries carry their own documentation."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    offered = {name: getattr(module, name) for name in names}
    return {
        name: value
        for name, value in offered.items()
        if (inspect.isclass(value) or inspect.isroutine(value)) and str(value.__module__).startswith("taut")
    }


def undocumented(name: str, value: Any) -> list[str]:
    """``value`` and, of a class, its public methods and properties, as far as they say nothing about themselves."""
    silent = [] if inspect.getdoc(value) else [name]
    if inspect.isclass(value):
        for member, entry in vars(value).items():
            described = isinstance(entry, (property, classmethod, staticmethod)) or inspect.isroutine(entry)
            if described and not member.startswith("_") and not inspect.getdoc(getattr(value, member)):
                silent.append(f"{name}.{member}")
    return silent


@pytest.mark.parametrize("name", ROOMS)
def test_public_names_say_what_they_are(name: str):
    module = importlib.import_module(name)
    silent = [] if module.__doc__ else [name]
    for member, value in public(module).items():
        silent += undocumented(f"{name}.{member}", value)
    assert not silent, f"without a docstring: {silent}"


@pytest.mark.parametrize("name", FILES)
def test_examples_do_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Examples run where a reader would run them, beside a folder `examples`, but may write there what they like.
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    # The names that every reader of the documentation has.
    scope = {"taut": taut, "dist": taut.dist, "jax": jax, "jnp": jnp, "np": np}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    found = doctest.DocTestFinder().find(importlib.import_module(name), extraglobs=scope)
    for example in found:
        runner.run(example, out=report.append)
    assert not report, "".join(report)
    # doctest looks only where it expects functions and classes: no example may stand elsewhere, unread.
    written = FILES[name].read_text(encoding="utf-8")
    assert sum(len(example.examples) for example in found) == len(re.findall(r">>> (?!#)", written))
