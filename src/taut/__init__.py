"""taut: variational inference that says whether to believe it."""

from taut import dist, handlers
from taut._errors import TautError, TautWarning
from taut.core import deterministic, factor, param, plate, sample

__version__ = "0.1.0"
