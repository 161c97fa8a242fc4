"""What upper bounds have in common: they are lowered, by scores, and few draws flatter them."""

from __future__ import annotations

from typing import ClassVar

from taut.objectives._iwae import IWAE
from taut.objectives._objective import Bound, Objective, whole_particles


class UpperBound(Objective):
    """An upper bound on the log evidence that estimates from few draws reach from below.

    Its gradient weighs scores, since differentiating such an estimate would lead away from the posterior. The model's
    parameters cannot be learned by it: lowering an upper bound would lower the evidence too.
    """

    bound: ClassVar[Bound | None] = "upper"
    asymptotic: ClassVar[bool] = True
    learns_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole_particles(self)

    @property
    def falls(self) -> bool:
        """See `Objective`."""
        return True

    @property
    def own_gradient(self) -> bool:
        """See `Objective`."""
        return True

    @property
    def yardstick(self) -> Objective:
        """See `Objective`: few draws rank a q that misses the weights below one that finds them."""
        return IWAE(particles=self.particles, averaged_over=self.averaged_over)
