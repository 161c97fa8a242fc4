"""One run of the model, one compilation per program, and no stale constants."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import taut
from taut import TautError, dist
from taut.problem import Problem, compilations

stats: Any = scipy.stats  # its stubs take frozen continuous distributions for discrete ones


def normal(y):
    mu = taut.sample("mu", dist.Normal(0.0, 1.0))
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, 1.0), obs=y)


def density(problem: Problem, at: float = 0.3) -> float:
    return float(problem.kernel()(np.full((1, problem.dim), at), problem.centredness())[0][0])


def test_the_model_runs_once():
    calls = []

    def model(y):
        calls.append(1)
        normal(y)

    problem = Problem(model, dict(y=np.zeros(3)))
    for _ in range(2):
        density(problem)
        problem.constrain(np.zeros((1, 1)))
        problem.log_joint({"mu": 0.0})
    assert len(calls) == 1


def test_new_data_of_the_same_shape_compile_nothing_and_give_the_new_answer():
    first = Problem(normal, dict(y=np.arange(13.0)))
    density(first)
    first.constrain(np.zeros((1, 1)))
    before = compilations()
    y = np.linspace(-1.0, 7.0, 13)
    second = Problem(normal, dict(y=y))
    np.testing.assert_allclose(density(second), stats.norm.logpdf(0.3) + stats.norm(0.3).logpdf(y).sum(), rtol=1e-12)
    second.constrain(np.zeros((1, 1)))
    assert compilations() == before
    assert (first.kernel().compilations, second.kernel().compilations) == (2, 0)
    # Another shape is another program.
    third = Problem(normal, dict(y=np.zeros(14)))
    density(third)
    assert third.kernel().compilations == 1


SOURCE = """
def model(y):
    loc = taut.sample("loc", dist.Normal(0.0, SCALE))
    with taut.plate("cell", len(y)):
        taut.sample("y", dist.Normal(loc, 1.0), obs=y)
"""


def from_cell(scale: str) -> Problem:
    scope: dict[str, Any] = {"taut": taut, "dist": dist}
    exec(SOURCE.replace("SCALE", scale), scope)
    return Problem(scope["model"], dict(y=np.ones(5)))


def test_running_a_notebook_cell_again_compiles_nothing():
    first = from_cell("2.0")
    density(first)
    again = from_cell("2.0")
    assert again.program == first.program
    density(again)
    assert again.kernel().compilations == 0


@pytest.mark.parametrize("scale", ["3.0", "2.000000000001"])
def test_another_number_in_the_cell_is_another_program(scale: str):
    first, other = from_cell("2.0"), from_cell(scale)
    assert other.program != first.program
    for problem, s in ((first, 2.0), (other, float(scale))):
        expected = stats.norm(0, s).logpdf(0.3) + 5 * stats.norm(0.3).logpdf(1.0)
        np.testing.assert_allclose(density(problem), expected, rtol=1e-14)


@pytest.mark.parametrize("make", [np.array, jnp.array])
@pytest.mark.parametrize("inner", [False, True])
def test_closed_over_arrays_are_never_stale(make: Any, inner: bool):
    # numpyro#441: data baked into the compiled function give the first data set's answer for ever.
    def closing_over(x):
        if inner:
            multiply = jax.jit(lambda a: a * x)
        else:
            multiply = lambda a: a * x  # noqa: E731

        def model(y):
            a = taut.sample("a", dist.Normal(0.0, 1.0))
            with taut.plate("rows", 40):
                taut.sample("y", dist.Normal(multiply(a), 1.0), obs=y)

        return model

    y, found = np.linspace(-1, 1, 40), []
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=40).astype(np.float32).astype(float)
        problem = Problem(closing_over(make(x)), dict(y=y))
        expected = stats.norm.logpdf(0.3) + stats.norm(0.3 * x).logpdf(y).sum()
        np.testing.assert_allclose(density(problem), expected, rtol=1e-6)
        found.append(problem.kernel().compilations)
    if not inner:
        assert found == [1, 0, 0]


def test_a_custom_derivative_defined_anew_is_another_program():
    def with_slope(slope):
        @jax.custom_jvp
        def same(x):
            return x

        @same.defjvp
        def _(primals, tangents):
            return primals[0], slope * tangents[0]

        @jax.custom_vjp
        def alike(x):
            return x

        alike.defvjp(lambda x: (x, None), lambda _, g: (slope * g,))

        def model():
            x = taut.sample("x", dist.Normal(0.0, 1.0))
            taut.factor("f", same(x))
            taut.factor("g", alike(x))

        return model

    for slope in (1.0, 5.0):
        problem = Problem(with_slope(slope))
        _, gradient = problem.kernel()(np.zeros((1, 1)), np.ones(1))
        assert gradient[0, 0] == 2 * slope


def test_library_functions_with_custom_derivatives_share_their_compilation():
    def model(y):
        x = taut.sample("x", dist.Gamma(2.0, 1.0))
        taut.sample("y", dist.Bernoulli(logits=jax.nn.softplus(jax.nn.relu(x)) + jax.scipy.special.logsumexp(x)), obs=y)

    first = Problem(model, dict(y=1.0))
    density(first)
    second = Problem(lambda y: model(y), dict(y=0.0))
    density(second)
    assert second.kernel().compilations == 0


def test_what_the_model_changes_outside_is_changed_once():
    seen: list[int] = []

    def model(y):
        seen.append(len(seen))
        normal(y * len(seen))

    problem = Problem(model, dict(y=np.ones(3)))
    other = Problem(model, dict(y=np.ones(3)))
    np.testing.assert_allclose(density(problem), stats.norm.logpdf(0.3) + 3 * stats.norm(0.3).logpdf(1.0))
    np.testing.assert_allclose(density(other), stats.norm.logpdf(0.3) + 3 * stats.norm(0.3).logpdf(2.0))
    assert seen == [0, 1]


def test_big_closed_over_arrays_are_arguments_of_the_kernel():
    big = np.random.default_rng(0).normal(size=(1000, 200))

    def model(y):
        w = taut.sample("w", dist.Normal(np.zeros(200), 1.0).to_event(1))
        with taut.plate("rows", 1000):
            taut.sample("y", dist.Normal(big @ w if False else jnp.asarray(big) @ w, 1.0), obs=y)

    problem = Problem(model, dict(y=np.zeros(1000)))
    assert any(np.shape(c) == (1000, 200) for c in problem.inputs[1])
    w = np.random.default_rng(1).normal(size=(1, 200)) * 0.1
    (value,), (slope,) = problem.kernel()(w, problem.centredness())
    expected = stats.norm.logpdf(w).sum() + stats.norm(big @ w[0]).logpdf(0.0).sum()
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    np.testing.assert_allclose(slope, -w[0] - big.T @ (big @ w[0]), rtol=1e-8, atol=1e-8)


def test_repeated_problems_leave_nothing_behind():
    def once(seed: int) -> weakref.ref:
        problem = Problem(normal, dict(y=np.random.default_rng(seed).normal(size=6)))
        density(problem)
        return weakref.ref(problem)

    refs = [once(seed) for seed in range(3)]
    gc.collect()
    arrays, objects = len(jax.live_arrays()), len(gc.get_objects())
    refs = [once(seed) for seed in range(100)]
    gc.collect()
    assert all(ref() is None for ref in refs)
    assert len(jax.live_arrays()) <= arrays
    # A hundred problems, each of thousands of objects.
    assert len(gc.get_objects()) - objects < 2_000


def test_problems_made_in_threads_at_once():
    def work(seed: int) -> float:
        y = np.random.default_rng(seed).normal(size=5)
        return density(Problem(normal, dict(y=y))) - stats.norm.logpdf(0.3) - stats.norm(0.3).logpdf(y).sum()

    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_allclose(list(pool.map(work, range(16))), 0.0, atol=1e-10)


def test_handlers_of_the_caller_are_left_out_of_a_problem():
    plain = density(Problem(normal, dict(y=np.ones(3))))
    with (
        taut.handlers.trace() as sites,
        taut.handlers.seed(key=0),
        taut.plate("outer", 2),
        taut.handlers.scale(scale=3.0),
    ):
        problem = Problem(normal, dict(y=np.ones(3)))
        assert density(problem) == plain
        assert problem.predict(size=2)["mu"].shape == (2,)
    assert list(sites) == ["outer"]


def test_importing_leaves_the_precision_alone():
    code = "import jax; before = jax.config.jax_enable_x64; import taut; print(before, jax.config.jax_enable_x64)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


# ---- Python and JAX inside of models


def _branch():
    x = taut.sample("x", dist.Normal(0.0, 1.0))
    if x < 0:  # the line
        x = -x


def _whole():
    x = taut.sample("x", dist.Normal(0.0, 1.0))
    range(int(x))  # the line


def _index():
    x = taut.sample("x", dist.Normal(0.0, 1.0))
    [1, 2, 3][jnp.argmax(x * jnp.ones(3))]  # the line


def _numpy():
    x = taut.sample("x", dist.Normal(0.0, 1.0))
    np.exp(x)  # the line


def _mask():
    x = taut.sample("x", dist.Normal(np.zeros(3), 1.0).to_event(1))
    taut.factor("f", x[x > 0].sum())  # the line


def _number():
    x = taut.sample("x", dist.Normal(0.0, 1.0))
    float(x)  # the line


@pytest.mark.parametrize("model", [_branch, _whole, _index, _numpy, _mask, _number])
def test_python_on_a_latent_is_refused_at_the_users_line(model: Any):
    import inspect

    lines, start = inspect.getsourcelines(model)
    marked = start + next(i for i, line in enumerate(lines) if "# the line" in line)
    with pytest.raises(TautError) as caught:
        Problem(model)
    assert caught.value.code == "control-flow"
    assert caught.value.source == f"test_program.py:{marked}"


def _in_jit(y):
    @jax.jit
    def inner(scale):
        x = taut.sample("x", dist.Normal(0.0, scale))
        with taut.plate("rows", 3):
            taut.sample("y", dist.Normal(x, 1.0), obs=y)
        return taut.deterministic("d", 2 * x)

    inner(2.0)


def test_statements_inside_of_jit_work():
    y = np.array([0.5, 1.0, 2.0])
    for model in (_in_jit, jax.jit(_in_jit)):
        problem = Problem(model, dict(y=y))
        expected = stats.norm(0, 2).logpdf(0.3) + stats.norm(0.3).logpdf(y).sum()
        np.testing.assert_allclose(density(problem), expected, rtol=1e-12)
        np.testing.assert_allclose(problem.constrain(np.array([[0.3]]))["d"], [0.6])
        assert {n: v.shape for n, v in problem.predict(size=2).items()} == {"x": (2,), "y": (2, 3), "d": (2,)}


def _draw(loc=0.0):
    return taut.sample("x", dist.Normal(loc, 1.0))


INSIDE = {
    "jax.lax.scan": lambda y: jax.lax.scan(lambda c, t: (_draw(c), None), 0.0, y),
    "jax.vmap": lambda y: jax.vmap(_draw)(y),
    "jax.lax.cond": lambda y: jax.lax.cond(y[0] > 0, _draw, lambda: 0.0),
    "jax.lax.map": lambda y: jax.lax.map(_draw, y),
    "jax.lax.fori_loop": lambda y: jax.lax.fori_loop(0, 3, lambda i, c: _draw(c), 0.0),
    "jax.lax.while_loop": lambda y: jax.lax.while_loop(lambda c: c < 0, _draw, y[0]),
    "jax.grad": lambda y: jax.grad(_draw)(y[0]),
    "jax.checkpoint": lambda y: jax.checkpoint(_draw)(y[0]),
}


@pytest.mark.parametrize("name", INSIDE)
def test_statements_inside_of_other_transformations_are_refused(name: str):
    with pytest.raises(TautError) as caught:
        Problem(INSIDE[name], dict(y=np.ones(3)))
    assert (caught.value.code, caught.value.site) == ("site-inside", "x")
    assert caught.value.found == f"taut.sample inside of {name}"
    assert str(caught.value.source).startswith("test_program.py:")
    # Also under a jit of the user's.
    with pytest.raises(TautError, match="site-inside|duplicate-site"):
        Problem(jax.jit(INSIDE[name]), dict(y=np.ones(3)))


def test_transformations_of_values_are_the_users_business():
    def model(y):
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        last, _ = jax.lax.scan(lambda c, t: (0.5 * c + x * t, None), 0.0, y)
        branch = jax.lax.cond(x > 0, lambda: x, lambda: 2 * x)
        mapped = jax.vmap(lambda t: t * x)(y).sum()
        looped = jax.lax.fori_loop(0, 3, lambda i, c: c * x, 1.0)
        slope = jax.grad(lambda a: (a * x) ** 2)(1.5)
        taut.sample("y", dist.Normal(last + branch + mapped + looped + slope, 1.0), obs=0.0)

    y, x = np.array([1.0, 2.0, -1.0]), 0.3
    last = 0.0
    for t in y:
        last = 0.5 * last + x * t
    mean = last + x + x * y.sum() + x**3 + 2 * 1.5 * x**2
    expected = stats.norm.logpdf(x) + stats.norm.logpdf(mean)
    np.testing.assert_allclose(density(Problem(model, dict(y=y))), expected, rtol=1e-12)


# ---- What depends on what


def test_dependencies_are_followed_through_calls():
    @jax.custom_jvp
    def custom(x):
        return x * 2

    custom.defjvp(lambda p, t: (custom(p[0]), 2 * t[0]))

    @jax.jit
    def two(a, b):
        return a + 1, jax.jit(lambda z: z * 2)(b)

    def model(x, y):
        a = taut.sample("a", dist.Normal(0.0, 1.0))
        b = taut.sample("b", dist.Normal(0.0, 1.0))
        first, second = two(a, b)
        taut.deterministic("first", first)
        taut.deterministic("second", second)
        taut.deterministic("custom", custom(a))
        taut.deterministic("scanned", jax.lax.scan(lambda c, t: (c + a * t, c), 0.0, x)[0])
        taut.deterministic("branch", jax.lax.cond(b > 0, lambda: 1.0, lambda: 2.0))
        taut.deterministic("looped", jax.lax.while_loop(lambda c: c < 3, lambda c: c + 1, jnp.sum(y)))
        taut.deterministic("constant", jnp.exp(1.0))
        # A scale that is no latent's: not hierarchical.
        taut.sample("known", dist.Normal(a, jnp.exp(y[0])))
        taut.sample("learned", dist.Normal(0.0, jnp.exp(b)))
        taut.sample("obs", dist.Normal(a, 1.0), obs=x[0])

    problem = Problem(model, dict(x=np.ones(3), y=np.ones(2)))
    reach = {
        n: {hole for hole in r if not hole.endswith("/centredness")} for n, r in problem.program.reach["value"].items()
    }
    assert reach["first"] == {"a"}
    assert reach["second"] == {"b"}
    assert reach["custom"] == {"a"}
    assert reach["scanned"] == {"a", "data:x"}
    assert reach["branch"] == {"b"}
    assert reach["looped"] == {"data:y"}
    assert reach["constant"] == set()
    assert problem.program.fixed() == ["obs"]
    assert {n for n, latent in problem.latents.items() if latent.hierarchical} == {"learned"}
