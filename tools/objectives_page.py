"""Write the table of docs/objectives.md from the table in code; ``tests/gradients/test_page.py`` compares the two.

python tools/objectives_page.py
"""

from __future__ import annotations

from pathlib import Path

from taut.gradients import KINDS, table_rows

PAGE = Path(__file__).resolve().parents[1] / "docs" / "objectives.md"
BEGIN, END = "<!-- table -->\n", "<!-- end -->"


def table() -> str:
    """The table in Markdown."""
    head = ("estimator", *KINDS, "dependent noise", "fixed noise", "guides")
    lines = [head, ("---",) * len(head), *((f"`{row[0]}`", *row[1:]) for row in table_rows())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def written(text: str) -> str:
    """The page with its table."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
