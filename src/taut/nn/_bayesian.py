"""Networks whose weights are latents."""

from __future__ import annotations

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from taut import dist
from taut._errors import TautError
from taut._precision import real_dtype
from taut.core import deterministic, param, sample, user_line
from taut.nn._priors import FanIn, Frozen, Horseshoe, Prior, check_patterns, prior_of

M = TypeVar("M")

_DEFAULT = FanIn()


def bayesian(name: str, module: M, prior: Prior = _DEFAULT) -> M:
    r"""A module with weights that are drawn: every array of real numbers in it becomes a latent, $w \sim p(w)$.

    The sites are called after the leaves, ``net$layers[0].weight``. Where the prior is ``None`` the leaf is a parameter
    of the model, learned as a point from the module's own value on; under `Frozen` it stays as it is. Integers,
    functions and settings are never touched. The prior is counted once, whatever the batches: the model says it, and
    the guide says $q$.

    Args:
        name: of the network.
        module: an Equinox module, or any pytree with arrays.
        prior: for all leaves, a distribution (of one weight, or of the leaf's shape), a function
            ``(path, shape) -> distribution``, `Horseshoe`, `Frozen` or ``None``; or a mapping from patterns of paths
            (``"layers[0].*"``, ``"*.bias"``) to these, of which the first that fits counts.

    Returns:
        The module with the drawn leaves.

    Raises:
        TautError: ``bad-argument`` for what is no prior or does not fit a leaf, ``site-missing`` for a pattern that
            fits none, ``side-effect`` for layers with a running state, ``plate-shape`` inside of a plate.

    Source: Blundell, Cornebise, Kavukcuoglu, Wierstra (2015), Weight uncertainty in neural networks.

    Example:
        >>> weights = {"w": np.zeros((1, 2)), "b": np.zeros(1)}
        >>> with taut.handlers.trace() as sites, taut.handlers.seed(key=0):
        ...     drawn = taut.nn.bayesian("net", weights, prior={"['w']": dist.Laplace(0.0, 1.0), "*": None})
        >>> [(name, site.kind) for name, site in sites.items()]
        [("net$['b']", 'param'), ("net$['w']", 'sample')]
    """
    _check_stateless(name, module)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(module)
    paths = [jax.tree_util.keystr(path).lstrip(".") for path, _ in leaves]
    random = [is_real(leaf) for _, leaf in leaves]
    if not any(random):
        raise TautError(
            "bad-argument",
            site=name,
            source=user_line(),
            found=f"{type(module).__name__}, in which there is no array of real numbers",
            expected="a module or a pytree with arrays",
            remedy=f'taut.nn.bayesian("{name}", eqx.nn.MLP(2, 1, 50, 1, key=jax.random.key(0)))',
        )
    check_patterns(prior, [path for path, drawn in zip(paths, random, strict=True) if drawn])
    values = [
        _leaf(f"{name}${path}" if path else name, path, leaf, prior) if drawn else leaf
        for path, (_, leaf), drawn in zip(paths, leaves, random, strict=True)
    ]
    return jax.tree_util.tree_unflatten(treedef, values)


def is_real(leaf: Any) -> bool:
    """Whether a leaf of a network is an array of real numbers, which is learned."""
    return isinstance(leaf, np.ndarray | jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _leaf(site: str, path: str, leaf: Any, prior: Prior) -> Any:
    shape = tuple(np.shape(leaf))
    found = prior_of(prior, path, shape)
    if isinstance(found, Frozen):
        return jnp.asarray(leaf, real_dtype())
    if found is None:
        return param(site, leaf)
    if isinstance(found, Horseshoe):
        return _horseshoe(site, shape, found)
    return _drawn(site, _of_shape(site, found, shape), shape)


def _horseshoe(site: str, shape: tuple[int, ...], prior: Horseshoe) -> Any:
    z = _drawn(f"{site}/z", _of_shape(site, dist.Normal(0.0, 1.0), shape), shape)
    local = _drawn(f"{site}/local", _of_shape(site, dist.HalfCauchy(1.0), shape), shape)
    overall = _drawn(f"{site}/global", dist.HalfCauchy(prior.scale), ())
    if prior.slab is not None:
        local = local / jnp.sqrt(1.0 + (overall * local / prior.slab) ** 2)
    return deterministic(site, overall * local * z)


def _drawn(site: str, fn: Any, shape: tuple[int, ...]) -> Any:
    value = sample(site, fn)
    if tuple(np.shape(value)) != shape:
        raise TautError(
            "plate-shape",
            site=site,
            source=user_line(),
            found=f"weights of shape {np.shape(value)} for a leaf of shape {shape}: the network is drawn in a plate",
            expected="one network for all rows, drawn outside of plates",
            remedy="net = taut.nn.bayesian(...) before the with statement",
        )
    return value


def _of_shape(site: str, fn: Any, shape: tuple[int, ...]) -> Any:
    """A prior as one distribution over a leaf: of every weight alike, or of the leaf's own shape."""
    own = tuple(fn.shape())
    try:
        fits = np.broadcast_shapes(own, shape) == shape and not (fn.event_shape and own != shape)
    except ValueError:
        fits = False
    if not fits:
        raise TautError(
            "bad-argument",
            site=site,
            source=user_line(),
            found=f"a prior of shape {own}",
            expected=f"one of a single weight, or of the leaf's shape {shape}",
            remedy="prior=taut.dist.Normal(0.0, 1.0)",
        )
    whole = fn if own == shape else fn.expand(shape)
    return whole.to_event(len(whole.batch_shape))


def _check_stateless(name: str, module: Any) -> None:
    """Refuse layers that keep a running state: every particle would need its own."""
    for leaf in jax.tree.leaves(module, is_leaf=lambda node: isinstance(node, eqx.nn.StateIndex)):
        if isinstance(leaf, eqx.nn.StateIndex):
            raise TautError(
                "side-effect",
                site=name,
                source=user_line(),
                found=f"{type(module).__name__} with a layer that keeps a running state, such as eqx.nn.BatchNorm",
                expected="a function of weights and inputs alone: a running state would be one for all draws of the "
                "weights",
                remedy="eqx.nn.LayerNorm or eqx.nn.GroupNorm in its place",
            )
