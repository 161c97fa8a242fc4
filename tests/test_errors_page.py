"""Every code has a program that raises it and one that does not, and the page of errors shows both as they are."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from taut._errors import CODES, TautError, TautWarning

ROOT = Path(__file__).resolve().parents[1]
_SPEC = importlib.util.spec_from_file_location("errors_page", ROOT / "tools" / "errors_page.py")
assert _SPEC is not None and _SPEC.loader is not None
errors_page: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["errors_page"] = errors_page
_SPEC.loader.exec_module(errors_page)


def run(code: str, part: str) -> list[TautError | TautWarning]:
    """Run a program of the page; what it raised and what it warned of."""
    entry = errors_page.entry(code)
    text = f"{entry.imports}\n\n{getattr(entry, part)}\n"
    name = f"{code}_{part}.py"
    # So that messages can quote the user's line, as they do for a file.
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        raised: list[Any] = []
        hidden = {module for module, value in sys.modules.items() if value is None}
        try:
            exec(compile(text, name, "exec"), {"__name__": name})
        except TautError as error:
            raised.append(error)
        finally:
            # A program may hide a package from itself.
            for module in [m for m, value in sys.modules.items() if value is None and m not in hidden]:
                del sys.modules[module]
    return raised + [w.message for w in warned if isinstance(w.message, TautWarning)]


@pytest.mark.parametrize("code", CODES)
def test_the_wrong_program_raises_the_code_and_the_right_one_does_not(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    file = errors_page.file_of(code)
    assert file.exists(), (
        f"the code {code!r} has no programs: write {file.relative_to(ROOT)} with a docstring that says why, the "
        "imports, a part '# wrong' that raises it and a part '# right' that does not; then python tools/errors_page.py"
    )
    found = run(code, "wrong")
    assert [problem.code for problem in found] == [code], f"the wrong program gives {found}"
    (problem,) = found
    for part in ("found", "expected", "remedy"):
        words = getattr(problem, part)
        assert words and "\n" not in words and words == words.strip(), f"{part}: {words!r}"
    assert str(problem).startswith(f"[{code}]")
    assert f"\n  found:    {problem.found}\n  expected: {problem.expected}\n  remedy:   {problem.remedy}" in str(
        problem
    )
    right = run(code, "right")
    assert not right, f"the right program gives {right}"


def test_the_page_is_up_to_date():
    written = errors_page.PAGE.read_text(encoding="utf-8")
    assert written == errors_page.page(), "docs/errors.md is out of date: run python tools/errors_page.py"


def test_no_program_is_left_of_a_code_that_went():
    files = {file.stem for file in errors_page.PROGRAMS.glob("*.py")}
    assert files <= {errors_page.file_of(code).stem for code in CODES}, "a program for a code that CODES does not hold"
