"""What one statement of a model is: a frozen record that handlers replace, never change."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

import jax

from taut import dist

Kind = Literal["sample", "param", "deterministic", "transformed", "factor", "plate"]

_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
_JAX = str(Path(str(jax.__file__)).parent) + os.sep


class PlateFrame(NamedTuple):
    """One open plate: ``length`` of ``size`` rows lie along batch dimension ``dim`` (negative)."""

    name: str
    size: int
    length: int
    dim: int


@dataclass(frozen=True)
class Site:
    """One statement of a model or guide.

    Attributes:
        kind: which primitive made it.
        name: unique among the sites of a program.
        fn: the distribution of a ``sample`` site, the constraint of a ``param`` site.
        value: what the program sees; ``None`` until a handler or the default gives one.
        observed: the value is data.
        plates: the plates it stands in, innermost first.
        scale: factor on its log density (subsampled plates, the ``scale`` handler).
        mask: where its log density counts; ``None`` is everywhere.
        key: JAX key for drawing a value, if one is in scope.
        log_density: log density of the coordinate that a handler moved instead of ``value`` (batch shape); ``None``
            means ``fn.log_prob(value)``.
        init: initial value of a ``param``, or a function of a key.
        coordinate: a strategy of `taut.handlers.reparam`: by which numbers on the real line a latent is found.
        stopped: handlers further out do not see the site.
        source: ``"file.py:line"`` of the user's statement.
        infer: free notes for algorithms, as in Pyro.
        allow: codes of checks that this statement is exempt from.
    """

    kind: Kind
    name: str
    fn: Any = None
    value: Any = None
    observed: bool = False
    plates: tuple[PlateFrame, ...] = ()
    scale: Any = 1.0
    mask: Any = None
    key: Any = None
    log_density: Any = None
    init: Any = None
    coordinate: Any = None
    stopped: bool = False
    source: str = ""
    infer: dict[str, Any] = field(default_factory=dict)
    allow: frozenset[str] = frozenset()

    @property
    def latent(self) -> bool:
        """Whether inference must find this site's value."""
        return self.kind == "sample" and not self.observed

    @property
    def auxiliary(self) -> bool:
        """Whether a guide draws it for its own use: it is no latent of the model."""
        return self.kind == "sample" and bool(self.infer.get("is_auxiliary"))


def user_line() -> str:
    """``"file.py:line"`` of the innermost caller outside this package, NumPyro's and JAX's."""
    frame = sys._getframe(1)
    while frame is not None:
        if outside(frame):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def outside(frame: FrameType) -> bool:
    """Whether a frame of the interpreter's stack is the user's: outside this package, NumPyro's and JAX's."""
    filename = frame.f_code.co_filename
    own = filename.startswith((_PACKAGE, _JAX)) or filename == contextlib.__file__
    return not own and not dist.is_from_numpyro(filename)
