"""Write docs/errors.md: one entry per code, with a program that raises it and the program that is right.

The programs live in ``tools/errors/CODE.py`` (dashes as underscores): a docstring that says why, the imports, a part
``# wrong`` and a part ``# right``. ``tests/test_errors_page.py`` runs both parts of each.

    python tools/errors_page.py          # writes the page
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from taut._errors import CODES

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tools" / "errors"
PAGE = ROOT / "docs" / "errors.md"

_HEAD = """# Errors and warnings

Every refusal of taut has the same form: a code that never changes, the site and the line concerned, what was found,
what was expected, and the line of code that mends it.

```
[data-shape] site 'y' (schools.py:9): An observed value and its distribution have different shapes.
  found:    observed value of shape (3, 1)
  expected: shape (3,): batch (3,), event (), plates rows=3
  remedy:   obs=y.reshape(-1)
```

A program reads the parts as `error.code`, `error.site`, `error.source`, `error.found`, `error.expected`,
`error.remedy`. Warnings (`taut.TautWarning`) have the same parts. A check that judges what is merely unusual can be
switched off for one statement, by its code: `taut.sample("y", ..., allow="probs-rounded")`.

All programs below begin with

```python
import jax, jax.numpy as jnp, numpy as np
import taut
from taut import dist
```

This page is written by `tools/errors_page.py`; its programs are run by the tests.
"""


class Entry(NamedTuple):
    """What is said of one code.

    Attributes:
        why: one or two sentences.
        imports: the lines before the programs.
        wrong: raises the code.
        right: does not.
    """

    why: str
    imports: str
    wrong: str
    right: str


def file_of(code: str) -> Path:
    """Where the programs of a code are."""
    return PROGRAMS / f"{code.replace('-', '_')}.py"


def entry(code: str) -> Entry:
    """Read the programs of a code."""
    text = file_of(code).read_text(encoding="utf-8")
    head, _, programs = text.partition("\n# wrong\n")
    wrong, _, right = programs.partition("\n# right\n")
    why = ast.get_docstring(ast.parse(head)) or ""
    imports = head.partition('"""')[2].partition('"""')[2]
    return Entry(" ".join(why.split()), imports.strip(), wrong.strip(), right.strip())


def page() -> str:
    """The whole page."""
    codes = [code for code in CODES if file_of(code).exists()]
    index = "\n".join(f"- [`{code}`](#{code}): {CODES[code]}" for code in codes)
    return "\n".join([_HEAD, index, "", *(_section(code) for code in codes)])


def _section(code: str) -> str:
    found = entry(code)
    return (
        f"## {code}\n\n{CODES[code]} {found.why}\n\nWrong:\n\n```python\n{found.wrong}\n```\n\n"
        f"Right:\n\n```python\n{found.right}\n```\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(CODES)} codes")
