"""``docs/reproductions.md`` from the results of `benchmarks.neural.run`."""

from __future__ import annotations

from typing import Any

from benchmarks.neural import autoencoders_page, networks_page

OPENING = """\
# The papers' experiments, with taut

`make bench-neural` writes this page. The data are the 10,000 test images of MNIST, split 8,000 / 1,000 / 1,000, because
they are what a small download holds; with MNIST's four files (`ARGS="--data FOLDER"`) the same command trains on all.
"""


def page(rows: list[dict[str, Any]], networks: dict[str, Any] | None, picture: str | None = None) -> str:
    """The page in Markdown.

    Args:
        rows: of `benchmarks.neural.autoencoders`.
        networks: of `benchmarks.neural.networks`, if these were run.
        picture: a link to the networks' picture.
    """
    parts = [OPENING, autoencoders_page.section(rows)]
    if networks is not None:
        parts.append(networks_page.section(networks, picture))
    return "\n".join(part for part in parts if part)
