"""docs/devdocs/architecture.md, enforced: the page's table is read here, so that page and test cannot disagree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PAGE = ROOT / "docs" / "devdocs" / "architecture.md"
FILES = sorted(SOURCE.rglob("*.py"))
LONGEST = 400

# Heavy packages that may be imported inside functions; the page names each.
LAZY = ("matplotlib", "arviz", "pandas", "pyarrow", "optax", "rich", "blackjax")
# What a fresh `import taut` must not load, beyond those.
UNWANTED = (*LAZY, "arviz_base", "arviz_stats", "statsmodels", "sklearn")
ONLY_ROOM_FOR_NUMPYRO = "dist"


class Import(NamedTuple):
    """One imported module: ``taut.dist`` for both ``import taut.dist`` and ``from taut import dist``."""

    file: Path
    line: int
    module: str
    in_function: bool
    at_run_time: bool  # False under `if TYPE_CHECKING:`

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def levels(page: str) -> dict[str, int]:
    """Name of a room or of a file beside the rooms -> level, from the table's rows ``| 4 | `problem/` | ... |``."""
    found: dict[str, int] = {}
    for level, names in re.findall(r"^\| (\d+) \| ([^|]*) \|", page, flags=re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", names):
            assert name not in found, f"{name} stands twice in the table"
            found[name] = int(level)
    return found


LEVELS = levels(PAGE.read_text(encoding="utf-8"))


def room(module: str) -> str:
    """The table's name for a module's home: ``taut.dist._x`` -> ``dist/``, ``taut._errors`` -> ``_errors.py``."""
    head = module.split(".")[1] if "." in module else "__init__"
    for name in (f"{head}/", f"{head}.py", head):
        if name in LEVELS:
            return name
    # A name that `taut/__init__.py` defines or re-exports.
    return "__init__" if not (SOURCE / "taut" / head).is_dir() else f"{head}/"


def module_of(file: Path) -> str:
    """Dotted name of a source file; a room's ``__init__.py`` is the room."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(file: Path) -> tuple[Import, ...]:
    """Every import of a file, wherever it stands."""
    return tuple(_imports(file, ast.parse(file.read_text(encoding="utf-8")), in_function=False, at_run_time=True))


def _imports(file: Path, node: ast.AST, *, in_function: bool, at_run_time: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        line = getattr(child, "lineno", 0)
        match child:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(file, line, alias.name, in_function, at_run_time)
            case ast.ImportFrom(level=depth) if depth > 0:
                yield Import(file, line, "." * depth, in_function, at_run_time)
            case ast.ImportFrom(module=module, names=names):
                for alias in names:
                    name = f"taut.{alias.name}" if module == "taut" else str(module)
                    yield Import(file, line, name, in_function, at_run_time)
            case ast.If(test=test, body=body, orelse=orelse) if ast.unparse(test).endswith("TYPE_CHECKING"):
                yield from _imports(file, ast.Module(body, []), in_function=in_function, at_run_time=False)
                yield from _imports(file, ast.Module(orelse, []), in_function=in_function, at_run_time=at_run_time)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from _imports(file, child, in_function=True, at_run_time=at_run_time)
            case _:
                yield from _imports(file, child, in_function=in_function, at_run_time=at_run_time)


def everything() -> list[Import]:
    """Every import of every source file."""
    return [entry for file in FILES for entry in imports(file)]


def refused(source: str, target: str) -> str | None:
    """Why the file or room ``source`` may not import ``target``, or None if it may."""
    if source == target:
        return None
    if target not in LEVELS:
        return f"{target} has no row in {PAGE.name}"
    if LEVELS[target] > LEVELS[source]:
        return f"an arrow up, from level {LEVELS[source]} to {LEVELS[target]}"
    if LEVELS[target] == LEVELS[source] and source.endswith("/") and target.endswith("/"):
        return "siblings never import one another"
    return None


def top(module: str) -> str:
    """First part of a dotted name."""
    return module.partition(".")[0]


def test_the_page_and_the_tree_name_the_same_rooms():
    here = {path.name for path in (SOURCE / "taut").iterdir() if path.name not in {"__pycache__", "py.typed"}}
    known = {name.rstrip("/") for name in LEVELS} | {"__init__.py", "__main__.py"}
    assert here <= known, f"no row in {PAGE.name} for {sorted(here - known)}"
    assert sorted(set(LEVELS.values())) == list(range(max(LEVELS.values()) + 1))
    assert LEVELS["dist/"] < LEVELS["core/"] < LEVELS["problem/"] < LEVELS["fitting/"]


def test_the_rules_refuse_what_they_should():
    assert refused("core/", "dist/") is None
    assert refused("core/", "core/") is None
    assert refused("cli/", "__init__") is None  # the top row is the face of the library
    assert refused("_keys.py", "_errors.py") is None  # files beside the rooms, not rooms
    assert refused("core/", "problem/") == "an arrow up, from level 2 to 4"
    assert refused("guides/", "objectives/") == "siblings never import one another"
    assert str(refused("core/", "nowhere/")).startswith("nowhere/ has no row")
    assert (room("taut"), room("taut.fit"), room("taut.dist._support")) == ("__init__", "__init__", "dist/")


def test_arrows_only_go_down():
    wrong = []
    for entry in everything():
        if top(entry.module) == "taut":
            source, target = room(module_of(entry.file)), room(entry.module)
            if source == "__init__" and module_of(entry.file) != "taut":
                source = "__main__"
            if reason := refused(source, target):
                wrong.append(f"{entry}: {reason}")
    assert not wrong, "\n".join(wrong)


def test_rooms_use_only_what_other_rooms_re_export():
    wrong = [
        str(entry)
        for entry in everything()
        if re.fullmatch(r"taut\.\w+\._\w+(\.\w+)*", entry.module) and room(entry.module) != room(module_of(entry.file))
    ]
    assert not wrong, "files are private to their room:\n" + "\n".join(wrong)


def test_only_dist_imports_numpyro():
    homes = {room(module_of(entry.file)) for entry in everything() if top(entry.module) == "numpyro"}
    assert homes <= {f"{ONLY_ROOM_FOR_NUMPYRO}/"}
    assert f"`{ONLY_ROOM_FOR_NUMPYRO}/` is the only room that imports `numpyro`" in PAGE.read_text(encoding="utf-8")


def test_imports_are_absolute():
    wrong = [str(entry) for entry in everything() if entry.module.startswith(".")]
    assert not wrong, "\n".join(wrong)


def test_imports_inside_functions_are_heavy_packages():
    wrong = [
        str(entry)
        for entry in everything()
        if entry.in_function and not any(top(entry.module) in (name, f"{name}_base", f"{name}_stats") for name in LAZY)
    ]
    assert not wrong, "imports stand at the top of a file:\n" + "\n".join(wrong)
    page = PAGE.read_text(encoding="utf-8")
    assert all(re.search(rf"\b{name}\b", page) for name in LAZY)


def test_heavy_packages_have_one_home_each():
    homes: dict[str, set[str]] = defaultdict(set)
    for entry in everything():
        if top(entry.module) in UNWANTED and entry.at_run_time:
            homes[top(entry.module)].add(str(entry.file.relative_to(ROOT)))
    assert all(len(files) == 1 for files in homes.values()), {name: sorted(files) for name, files in homes.items()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_is_one_idea(file: Path):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST, f"more than {LONGEST} lines: split it"
    assert ast.get_docstring(ast.parse(text)), "a file starts by saying what its idea is"


def test_import_taut_is_light_and_leaves_settings_alone():
    code = (
        "import sys, jax\n"
        "before = jax.config.read('jax_enable_x64')\n"
        "import taut\n"
        f"loaded = sorted(set({UNWANTED!r}) & {{name.partition('.')[0] for name in sys.modules}})\n"
        "assert not loaded, loaded\n"
        "assert jax.config.read('jax_enable_x64') == before, 'jax_enable_x64 changed'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SOURCE, check=False)
    assert done.returncode == 0, done.stderr
