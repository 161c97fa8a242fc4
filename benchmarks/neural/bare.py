"""Training loops as one writes them without a library: JAX and optax, one compiled scan over a chunk of steps.

Each loop has the objective, the estimator, the sizes and the precision of its counterpart in `benchmarks.neural.speed`.
Data lie on the device, batches are gathered inside of the loop by rows that come with the chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Params = dict[str, Any]
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Loop:
    """A loop with its parameters and its optimiser's state.

    Args:
        loss: ``(params, key, batch) -> float``, negative objective of all rows.
        params: the first ones.
        data: columns on the device, all of one length.
        size: rows of a batch.
        rate: of Adam.
    """

    def __init__(self, loss: Callable[..., Any], params: Params, data: dict[str, Any], size: int, rate: float = 1e-3):
        self.optimizer = optax.adam(rate)
        self.data = {name: jnp.asarray(value) for name, value in data.items()}
        self.size, self.count = size, len(next(iter(data.values())))
        self.params = jax.tree.map(jnp.asarray, params)
        self.memory = self.optimizer.init(self.params)
        self.key = jax.random.key(0)
        self.order = np.random.default_rng(0)
        self.rows = np.zeros(0, np.int64)
        self.chunk = jax.jit(partial(_chunk, loss, self.optimizer), donate_argnums=(0, 1))

    def run(self, steps: int) -> np.ndarray:
        """Take steps; returns their losses."""
        while len(self.rows) < steps * self.size:
            whole = self.count // self.size * self.size
            self.rows = np.concatenate([self.rows, self.order.permutation(self.count)[:whole]])
        rows, self.rows = np.split(self.rows, [steps * self.size])
        rows = rows.reshape(steps, self.size).astype(np.int32)
        self.params, self.memory, self.key, losses = self.chunk(self.params, self.memory, self.key, self.data, rows)
        return np.asarray(losses)


def _chunk(loss: Any, optimizer: Any, params: Any, memory: Any, key: Any, data: Any, rows: Any) -> Any:
    def step(carry: Any, chosen: Any) -> Any:
        params, memory, key = carry
        key, here = jax.random.split(key)
        batch = {name: column[chosen] for name, column in data.items()}
        value, slope = jax.value_and_grad(loss)(params, here, batch)
        updates, memory = optimizer.update(slope, memory, params)
        return (optax.apply_updates(params, updates), memory, key), value

    (params, memory, key), losses = jax.lax.scan(step, (params, memory, key), rows)
    return params, memory, key, losses


def dense(key: Any, sizes: tuple[int, ...]) -> Params:
    """Weights and biases of a network, layer by layer."""
    found = {}
    for i, (into, out) in enumerate(pairwise(sizes)):
        key, here = jax.random.split(key)
        found[f"w{i}"] = jax.random.uniform(here, (into, out), jnp.float32, -1.0, 1.0) / math.sqrt(into)
        found[f"b{i}"] = jnp.zeros(out, jnp.float32)
    return found


def apply(params: Params, x: Any, activation: Callable[[Any], Any]) -> Any:
    """The network at rows ``x``, of which there may be several axes."""
    depth = len(params) // 2
    for i in range(depth):
        x = x @ params[f"w{i}"] + params[f"b{i}"]
        x = activation(x) if i < depth - 1 else x
    return x


def autoencoder(
    data: np.ndarray, size: int, particles: int, hidden: int = 200, latent: int = 50, rate: float = 1e-3
) -> Loop:
    """A VAE of one stochastic layer, or an IWAE of several particles: Bernoulli pixels, normal code."""
    total, pixels = data.shape
    into, out = jax.random.split(jax.random.key(1))
    params = {
        "encoder": dense(into, (pixels, hidden, hidden, 2 * latent)),
        "decoder": dense(out, (latent, hidden, hidden, pixels)),
    }

    def loss(params: Params, key: Any, batch: Params) -> Any:
        x = batch["x"]
        loc, log_scale = jnp.split(apply(params["encoder"], x, jnp.tanh), 2, axis=1)
        noise = jax.random.normal(key, (particles, size, latent), jnp.float32)
        z = loc + jnp.exp(log_scale) * noise
        logits = apply(params["decoder"], z, jnp.tanh)
        log_x = jnp.sum(x * logits - jax.nn.softplus(logits), axis=-1)
        log_prior = jnp.sum(-0.5 * z**2 - _HALF_LOG_2PI, axis=-1)
        log_q = jnp.sum(-0.5 * noise**2 - _HALF_LOG_2PI - log_scale, axis=-1)
        log_w = log_x + log_prior - log_q
        bound = jax.nn.logsumexp(log_w, axis=0) - math.log(particles)
        return -total / size * jnp.sum(bound)

    return Loop(loss, params, {"x": data}, size, rate)


def by_backprop(
    x: np.ndarray, y: np.ndarray, size: int, sizes: tuple[int, ...], local: bool, rate: float = 1e-3
) -> Loop:
    """A network of normal weights under a mixture of two normals, w = 0.5, scales 1 and e^-6.

    Args:
        x, y: images and labels.
        size: rows of a batch.
        sizes: of the layers.
        local: draw the layers' products row by row in place of the weights.
        rate: of Adam.
    """
    total = len(x)
    loc = dense(jax.random.key(1), sizes)
    params = {"loc": loc, "log_scale": jax.tree.map(lambda w: jnp.full(w.shape, math.log(0.02), jnp.float32), loc)}
    depth = len(sizes) - 1
    scales = 1.0, math.exp(-6)

    def log_prior(w: Any) -> Any:
        first, second = (math.log(0.5) - 0.5 * (w / s) ** 2 - math.log(s) - _HALF_LOG_2PI for s in scales)
        return jnp.sum(jnp.logaddexp(first, second))

    def loss(params: Params, key: Any, batch: Params) -> Any:
        loc, log_scale = params["loc"], params["log_scale"]
        keys = dict(zip(loc, jax.random.split(key, len(loc)), strict=True))
        noise = {name: jax.random.normal(keys[name], loc[name].shape, jnp.float32) for name in loc}
        drawn = {name: loc[name] + jnp.exp(log_scale[name]) * noise[name] for name in loc}
        kl = sum(
            jnp.sum(-0.5 * noise[name] ** 2 - _HALF_LOG_2PI - log_scale[name]) - log_prior(drawn[name]) for name in loc
        )
        if not local:
            logits = apply(drawn, batch["x"], jax.nn.relu)
        else:
            logits, rows = batch["x"], jax.random.split(jax.random.fold_in(key, 1), depth)
            for i in range(depth):
                mean = logits @ loc[f"w{i}"] + loc[f"b{i}"]
                spread = logits**2 @ jnp.exp(2 * log_scale[f"w{i}"]) + jnp.exp(2 * log_scale[f"b{i}"])
                logits = mean + jnp.sqrt(spread) * jax.random.normal(rows[i], mean.shape, jnp.float32)
                logits = jax.nn.relu(logits) if i < depth - 1 else logits
        fit = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["y"][:, None], axis=1)
        return kl - total / size * jnp.sum(fit)

    return Loop(loss, params, {"x": x, "y": y}, size, rate)
