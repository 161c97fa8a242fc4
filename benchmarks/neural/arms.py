"""Ways to be sure or unsure of a network's weights, each as one line of taut.

A network of two hidden layers of 400 rectified units says what digit an image shows. The model, the rows and the number
of epochs are the same for all arms; prior scales and step sizes were chosen on the validation images alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import optax

import taut
from taut import dist, nn

PIXELS, UNITS, HIDDEN, CLASSES = 784, 400, 2, 10
SIZE = 125  # rows of a batch


_WIDTH = 0.02  # standard deviation of every weight at the start
_SAMPLED, _EXACT = taut.objectives.ELBO(), taut.objectives.ELBO(kl="analytic")
_FLAT = dist.ImproperUniform(dist.constraints.real, (), ())
_WIDE, _NORMAL, _NARROW = dist.Normal(0.0, 1.0), dist.Normal(0.0, 0.3), dist.Normal(0.0, 0.1)
_MIXTURE = nn.ScaleMixture(0.5, 1.0, 0.2)


class Arm(NamedTuple):
    """One way.

    Attributes:
        label: in tables.
        prior: of the weights, as `taut.nn.bayesian` takes it.
        guide: made from where it begins.
        algorithm: made from the number of steps.
        draws: whether its predictions are means over draws of the network; else it is a point.
        bayes: whether its objective is an evidence bound.
    """

    label: str
    prior: Any
    guide: Callable[[Any], Any]
    algorithm: Callable[[int], taut.algorithms.SVI]
    draws: bool = True
    bayes: bool = True


def network(key: int = 0) -> Any:
    """The network, with the weights that it begins with."""
    return eqx.nn.MLP(PIXELS, CLASSES, UNITS, HIDDEN, key=jax.random.key(key))


def classifier(module: Any, prior: Any) -> Callable[..., None]:
    """The model of all arms: ten logits of an image, and its label."""

    def model(x: Any, y: Any = None) -> None:
        net = nn.bayesian("net", module, prior=prior)
        logits = taut.deterministic("logits", jax.vmap(net)(x))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Categorical(logits=logits), obs=y)

    return model


def adam(rate: float, objective: Any = _SAMPLED) -> Callable[[int], taut.algorithms.SVI]:
    """Adam with a step size that falls to nothing along a cosine."""

    def make(steps: int) -> taut.algorithms.SVI:
        schedule = optax.cosine_decay_schedule(rate, steps)
        return taut.algorithms.SVI(objective, optimizer=optax.adam(schedule), steps=steps)

    return make


def _point(start: Any) -> Any:
    return taut.guides.Delta(start=start)


def _local(start: Any) -> Any:
    return nn.MeanFieldNet(start=start, scale=_WIDTH)


def _flipout(start: Any) -> Any:
    return nn.MeanFieldNet(nn.Flipout(), start=start, scale=_WIDTH)


def _shared(start: Any) -> Any:
    return taut.guides.MeanField(start=start, scale=_WIDTH)


def _dropout(start: Any) -> Any:
    return nn.MCDropout(rate=0.5, start=start)


ARMS: Mapping[str, Arm] = {
    "likelihood": Arm("maximum likelihood", _FLAT, _point, adam(1e-3), draws=False, bayes=False),
    "map": Arm("MAP", _WIDE, _point, adam(1e-3), draws=False, bayes=False),
    "dropout": Arm("MC dropout", _WIDE, _dropout, adam(1e-3), bayes=False),
    "bbb": Arm("BBB, normal prior", _NORMAL, _local, adam(1e-3, _EXACT)),
    "bbb-mixture": Arm("BBB, scale mixture", _MIXTURE, _local, adam(1e-3)),
    "bbb-flipout": Arm("BBB, normal prior, Flipout", _NORMAL, _flipout, adam(1e-3, _EXACT)),
    "bbb-shared": Arm("BBB, normal prior, one draw for a batch", _NORMAL, _shared, adam(1e-3, _EXACT)),
    "bbb-bound": Arm("BBB, normal prior, the ELBO climbed to its end", _NARROW, _local, adam(3e-3, _EXACT)),
    "bbb-tempered": Arm(
        "BBB, KL term at a tenth (no bound)", _NARROW, _local, adam(3e-3, taut.objectives.Tempered(0.1)), bayes=False
    ),
    "ivon": Arm("IVON", _NORMAL, _shared, lambda steps: taut.algorithms.IVON(steps=steps, beta2=0.9998)),
}
