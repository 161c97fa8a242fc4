"""The pages of the ladder run as they are written, and their tables of constants say what the code says."""

from __future__ import annotations

import ast
import importlib
import inspect
import linecache
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "ladder").glob("*.md"))
GUIDES = [
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
    *(ROOT / "docs" / f"{n}.md" for n in ("autoencoders", "discrete", "evidence")),
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"^\| constant \| value \|.*\n\| --- .*\n((?:\|.*\n)+)", re.MULTILINE)
# A row of a table of constants: where it is written, or the function and its argument; its value; what it is for.
CONSTANT = re.compile(r"\| `([\w.]+)(?:\((\w+)\))?` \| `([^`]+)` \| .+ \|")


@pytest.mark.parametrize("page", [*PAGES, *GUIDES], ids=lambda page: page.stem)
def test_the_examples_of_a_page_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Blocks share one namespace; the figures that a page promises are its own ``assert`` lines."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    scope: dict[str, Any] = {"__name__": page.stem}
    for number, block in enumerate(BLOCK.finditer(text), start=1):
        # So that a failure and taut's own errors can quote the line of the page.
        name = f"{page.name} block {number}"
        source = "\n" * text[: block.start(1)].count("\n") + block[1]
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), scope)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_constants_are_those_of_the_code(page: Path):
    tables = TABLE.findall(page.read_text(encoding="utf-8"))
    for line in "".join(tables).splitlines():
        row = CONSTANT.fullmatch(line)
        assert row is not None, f"{page.name}: no constant in {line!r}"
        place, argument, value = row.groups()
        found = _at(place)
        if argument:
            found = inspect.signature(found).parameters[argument].default
        if isinstance(found, frozenset):
            found = tuple(sorted(found))
        elif hasattr(found, "tolist"):
            found = _tuples(found.tolist())
        assert found == ast.literal_eval(value), f"{page.name}: {place} is {found!r}, not {value}"


def test_every_rung_has_a_page_that_the_index_links():
    index = (ROOT / "docs" / "ladder" / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        if page.stem != "index":
            assert f"({page.name})" in index, f"index.md does not link {page.name}"
            text = page.read_text(encoding="utf-8")
            assert BLOCK.search(text), f"{page.name} has no example"
            assert TABLE.search(text), f"{page.name} has no table of constants"


def _at(place: str) -> Any:
    """The object that a dotted name in a table means; tables leave ``taut.`` out."""
    parts = place.split(".")
    for cut in range(len(parts), -1, -1):
        try:
            found: Any = importlib.import_module(".".join(["taut", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"no {place} in taut")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
