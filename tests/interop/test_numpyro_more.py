"""More models in NumPyro's words: scopes, lifted parameters, loops that carry tuples, reparametrised and masked sites.

The independent answer is NumPyro's own log density at random values of the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro as numpyro_typed
import numpyro.distributions as dist
import pytest
from numpyro import handlers as handlers_typed
from numpyro.contrib.control_flow import cond, scan
from numpyro.handlers import lift as lift_typed
from numpyro.handlers import scope
from numpyro.handlers import substitute as substitute_typed
from numpyro.infer.reparam import CircularReparam, LocScaleReparam, ProjectedNormalReparam, TransformReparam
from numpyro.infer.util import log_density

import taut

numpyro: Any = numpyro_typed  # which calls whatever is sampled a number
handlers: Any = handlers_typed
lift: Any = lift_typed
substitute: Any = substitute_typed


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def scoped(x, y=None):
    def line(x):
        a = numpyro.sample("a", dist.Normal(0, 1))
        b = numpyro.sample("b", dist.Normal(0, 1))
        return a + b * x

    with scope(prefix="left"):
        left = line(x)
    right = handlers.scope(line, prefix="right")(x)
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(left - right**2, sigma), obs=y)


def lifted(x, y=None):
    def net(x):
        w = numpyro.param("w", jnp.zeros(2))
        s = numpyro.param("s", 1.0, constraint=dist.constraints.positive)
        return x @ w, s

    mean, s = lift(net, prior={"w": dist.Normal(0, 2).expand([2]).to_event(1), "s": dist.LogNormal(0.0, 0.5)})(x)
    numpyro.sample("y", dist.Normal(mean, s), obs=y)


def tuple_scan(y):
    tau = numpyro.sample("tau", dist.HalfNormal(0.3))
    n = y.shape[1]

    def step(carry, now):
        level, slope, t = carry
        with numpyro.plate("series", n):
            slope = numpyro.sample("slope", dist.Normal(slope, tau))
            level = level + slope
            numpyro.sample("y", dist.Normal(level, 0.5), obs=now)
        return (level, slope, t + 1), level

    _, levels = scan(step, (jnp.zeros(n), jnp.zeros(n), 0), y)
    numpyro.deterministic("levels", levels)


def walk(y):
    scale = numpyro.sample("scale", dist.LogNormal(-1.0, 0.5))
    with numpyro.plate("series", y.shape[0]):
        z = numpyro.sample("z", dist.GaussianRandomWalk(scale, num_steps=y.shape[1]))
    numpyro.sample("y", dist.Normal(z, 0.3).to_event(1), obs=y)


def zinb(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([2]))
    g = numpyro.sample("g", dist.Normal(0, 1))
    phi = numpyro.sample("phi", dist.Exponential(1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.ZeroInflatedNegativeBinomial2(jnp.exp(b[0] + b[1] * x), phi, gate_logits=g), obs=y)


def conditioned(y):
    def inner():
        m = numpyro.sample("m", dist.Normal(0, 1))
        s = numpyro.sample("s", dist.HalfNormal(1.0))
        z = numpyro.sample("z", dist.Normal(m, s))
        return z

    z = handlers.condition(inner, {"m": 0.3})()
    k = substitute(lambda: numpyro.sample("k", dist.Normal(0, 1)), {"k": jnp.asarray(0.7)})()
    with handlers.scale(scale=2.0), handlers.mask(mask=jnp.array([True, False, True])):
        numpyro.sample("y", dist.Normal(z + k, 1.0).expand([3]), obs=y)


def angles(y):
    with handlers.reparam(config={"phi": ProjectedNormalReparam()}):
        phi = numpyro.sample("phi", dist.ProjectedNormal(jnp.array([1.0, 0.2])))
    k = numpyro.sample("k", dist.Gamma(2.0, 0.5))
    a = jnp.arctan2(phi[1], phi[0])
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.VonMises(a, k), obs=y)


def transformed_latent(y):
    with handlers.reparam(config={"s": TransformReparam(), "theta": LocScaleReparam(0.4, shape_params=["df"])}):
        s = numpyro.sample("s", dist.TransformedDistribution(dist.Normal(0, 1), dist.transforms.ExpTransform()))
        with numpyro.plate("rows", len(y)):
            theta = numpyro.sample("theta", dist.StudentT(5.0, 0.0, s))
            numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def cond_scan(y, late):
    def step(m, now):
        x = numpyro.sample("x", dist.Normal(m, 0.5))
        numpyro.sample("y", dist.Normal(x, 1.0), obs=now)
        return x, x

    last, _ = scan(step, 0.0, y)
    cond(
        late > 0,
        lambda m: numpyro.sample("end", dist.Normal(m, 1.0)),
        lambda m: numpyro.sample("end", dist.Normal(-m, 2.0)),
        last,
    )


def crossed(x, g, h, y):
    sg = numpyro.sample("sg", dist.HalfCauchy(1.0))
    sh = numpyro.sample("sh", dist.HalfCauchy(1.0))
    with numpyro.plate("G", 3):
        a = numpyro.sample("a", dist.Normal(0, sg))
    with numpyro.plate("H", 2):
        b = numpyro.sample("b", dist.Normal(0, sh))
    chol = numpyro.sample("chol", dist.LKJCholesky(2, 1.5))
    w = numpyro.sample("w", dist.MultivariateNormal(jnp.zeros(2), scale_tril=chol))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.NegativeBinomial2(jnp.exp(a[g] + b[h] + x @ w), 3.0), obs=y)


def obs_masked(y, known):
    m = numpyro.sample("m", dist.Normal(0, 1))
    chol = numpyro.sample("chol", dist.LKJCholesky(2, 2.0))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.MultivariateNormal(m, scale_tril=chol), obs=y, obs_mask=known)


def scoped_reparam(y):
    with scope(prefix="country", divider="."):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.HalfCauchy(5))
        with numpyro.plate("J", len(y)), handlers.reparam(config={"country.theta": LocScaleReparam(0)}):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("obs", dist.Normal(theta, 10.0), obs=y)


def circular(y):
    with handlers.reparam(config={"phi": CircularReparam()}):
        phi = numpyro.sample("phi", dist.VonMises(3.0, 1.0))
    numpyro.sample("y", dist.VonMises(phi, 4.0).expand([len(y)]).to_event(1), obs=y)


X, Y = rng(0).normal(size=(10, 2)), rng(1).normal(size=10)
GROUPS, HALVES = np.arange(10) % 3, np.arange(10) % 2

# Models with their data, and the model's own names that results must have.
MODELS: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (scoped, dict(x=X[:, 0], y=Y), "left/a left/b right/a right/b sigma"),
    (lifted, dict(x=X, y=Y), "w s"),
    (tuple_scan, dict(y=rng(2).normal(size=(4, 2))), "tau slope levels"),
    (walk, dict(y=rng(3).normal(size=(2, 5))), "scale z"),
    (zinb, dict(x=X[:, 0], y=rng(4).poisson(2.0, size=10)), "b g phi"),
    (conditioned, dict(y=Y[:3]), "s z k"),
    (angles, dict(y=Y), "phi k"),
    (transformed_latent, dict(y=Y[:4]), "s theta"),
    (cond_scan, dict(y=Y[:4], late=1.0), "x end"),
    (crossed, dict(x=X, g=GROUPS, h=HALVES, y=rng(5).poisson(2.0, size=10)), "sg sh a b chol w"),
    (obs_masked, dict(y=X, known=np.arange(10) % 3 != 0), "m chol y_unobserved"),
    (scoped_reparam, dict(y=Y[:4]), "country.mu country.tau country.theta"),
    (circular, dict(y=Y[:3]), "phi"),
]


def numpyros_densities(model: Callable[..., Any], data: Mapping[str, Any], values: Mapping[str, Any]) -> np.ndarray:
    """NumPyro's log joint at rows of values of latents and parameters."""
    fixed = {n: v for n, v in data.items() if not isinstance(v, np.ndarray)}

    def one(arrays: Any, point: Any) -> Any:
        return log_density(handlers.seed(model, rng_seed=0), (), {**arrays, **fixed}, point)[0]

    with jax.enable_x64(True):
        arrays = {n: v for n, v in data.items() if n not in fixed}
        return np.asarray(jax.jit(jax.vmap(one, (None, 0)))(arrays, dict(values)))


@pytest.mark.parametrize(("model", "data", "names"), MODELS, ids=[entry[0].__name__ for entry in MODELS])
def test_the_log_joint_is_numpyros_and_the_names_are_the_models(model: Any, data: dict[str, Any], names: str):
    problem = taut.Problem(model, data)
    sites = problem.constrain(0.7 * rng(100).normal(size=(3, problem.dim + problem.num_params)))
    assert set(names.split()) <= set(sites)
    values = {name: sites[name] for name in problem.layout}
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(problem.log_joint))(values)
    np.testing.assert_allclose(np.asarray(found), numpyros_densities(model, data, values), rtol=1e-9, atol=1e-6)


def test_tauts_reparametrisation_acts_on_numpyros_statements():
    def schools(y: Any) -> None:
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.HalfCauchy(5))
        with numpyro.plate("J", len(y)):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("obs", dist.Normal(theta, 10.0), obs=y)

    y = Y[:4]
    problem = taut.Problem(taut.handlers.reparam(schools, {"theta": taut.handlers.LocScale(0.0)}), dict(y=y))
    assert list(problem.latents) == ["mu", "tau", "theta"] and problem.latents["theta"].transform == "centred"
    u = 0.3 * rng(9).normal(size=(1, 6))
    values = problem.constrain(u)
    # By hand: theta = mu + tau u, so the density of u is that of theta times tau for each of four, and of log tau.
    expected = numpyros_densities(schools, dict(y=y), {n: values[n] for n in ("mu", "tau", "theta")})[0]
    expected += 5 * np.log(values["tau"][0])
    np.testing.assert_allclose(values["theta"][0], values["mu"][0] + values["tau"][0] * u[0, 2:], rtol=1e-12)
    assert float(problem.log_joint(u[0])) == pytest.approx(float(expected), abs=1e-9)
