"""The page of objectives: its table is the code's, its programs run, and every pair of the table is held to it."""

from __future__ import annotations

import importlib.util
import linecache
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from taut import gradients, objectives
from taut._errors import TautError

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "objectives.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
OF_KIND: dict[str, objectives.Objective] = {
    "mean": objectives.ELBO(4),
    "logarithm": objectives.IWAE(4),
    "own gradient": objectives.RWS(4),
}


def test_the_table_is_the_code_s():
    spec = importlib.util.spec_from_file_location("objectives_page", ROOT / "tools" / "objectives_page.py")
    assert spec is not None and spec.loader is not None
    tool: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = PAGE.read_text(encoding="utf-8")
    assert tool.written(text) == text, "python tools/objectives_page.py"


@pytest.mark.slow
def test_the_programs_run(monkeypatch: pytest.MonkeyPatch):
    # Dataclasses look their module up.
    module = types.ModuleType("page_of_objectives")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    scope: dict[str, Any] = vars(module)
    text = PAGE.read_text(encoding="utf-8")
    for number, block in enumerate(BLOCK.finditer(text), start=1):
        name = f"objectives.md block {number}"
        linecache.cache[name] = (len(block[1]), None, block[1].splitlines(keepends=True), name)
        exec(compile(block[1], name, "exec"), scope)


def test_templates_take_less_than_fifty_lines():
    blocks = [block[1] for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]
    assert all(len(block.splitlines()) < 50 for block in blocks)


@pytest.mark.parametrize("name", gradients.TABLE)
def test_refusals_are_those_of_the_table(name: str):
    estimator, row = getattr(gradients, name)(), gradients.TABLE[name]
    for kind, objective in OF_KIND.items():
        assert gradients.kind_of(objective) == kind
        said = row.of(kind)  # type: ignore[arg-type]
        if said in ("unbiased", "consistent as particles grow"):
            estimator.valid_for(objective)
            continue
        with pytest.raises(TautError) as refused:
            estimator.valid_for(objective)
        assert refused.value.code == "bad-combination"
        assert said in refused.value.expected
        assert refused.value.remedy == row.instead[kind]  # type: ignore[index]
