"""Ways to run a program differently: each handler is one object with `before` and `after`."""

from taut.handlers._block import block
from taut.handlers._seed import seed
from taut.handlers._trace import Trace, trace
from taut.handlers._values import condition, do, replay, substitute
from taut.handlers._weight import mask, scale
from taut.handlers._whole import whole

__all__ = ["Trace", "block", "condition", "do", "mask", "replay", "scale", "seed", "substitute", "trace", "whole"]
