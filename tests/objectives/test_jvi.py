"""The jackknife and the delta method against brute force over subsets, in forty decimal digits."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma

from taut import objectives
from taut._errors import TautError
from taut._precision import scope
from taut.diagnostics import jackknife
from taut.objectives import jackknifed


def over_subsets(log_weights: np.ndarray, order: int, digits: int = 40) -> float:
    """The definition: every subset of every size, with enough digits that nothing cancels."""
    size = len(log_weights)
    with localcontext() as context:
        context.prec = digits
        weights = [Decimal(float(v)).exp() for v in log_weights]
        total = Decimal(0)
        for j in range(order + 1):
            left = [
                sum((w for i, w in enumerate(weights) if i not in out), Decimal(0))
                for out in itertools.combinations(range(size), j)
            ]
            mean = sum(((w / (size - j)).ln() for w in left), Decimal(0)) / len(left)
            total += Decimal((-1) ** j * (size - j) ** order) / (math.factorial(order - j) * math.factorial(j)) * mean
        return float(total)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("size, spread", [(4, 0.1), (9, 0.1), (4, 3.0), (9, 3.0), (4, 40.0), (9, 30.0), (4, 300.0)])
def test_closed_forms_are_the_average_over_subsets(size: int, order: int, spread: float):
    # From a spread of 30 on one weight is all of the sum, to 17 and to 100 digits.
    x = np.random.default_rng(size).normal(size=size) * spread - 90.0
    brute = over_subsets(x, order, digits=40 if spread < 35 else 100 if spread < 100 else 700)
    with scope("float64"):
        found = float(jax.jit(objectives.JVI(size, order).reduce)(jnp.asarray(x)))
    assert found == pytest.approx(brute, rel=1e-13, abs=1e-12)
    assert jackknife(x, order) == pytest.approx(brute, rel=1e-13, abs=1e-12)


@pytest.mark.parametrize("size, order", [(256, 1), (256, 2), (128, 3)])
def test_single_precision_keeps_its_digits_at_256_particles(size: int, order: int):
    # Rounding log weights near -90 moves each by up to 4e-6, and so does rounding the result.
    x = (np.random.default_rng(order).normal(size=size) - 90.0).astype(np.float32)
    found = jax.jit(objectives.JVI(size, order).reduce)(jnp.asarray(x))
    assert found.dtype == np.float32
    assert abs(float(found) - float(jackknife(x, order))) < 2e-5


def test_order_three_at_128_particles_in_double_precision():
    # The same formula summed over pairs and triples in a different order: differences, not cancelled sums.
    x = np.random.default_rng(0).normal(size=128)
    w = np.exp(x - x.max())
    w /= w.sum()
    # Power sums give the averages over subsets as a series: w is small, so log(1 - s) needs few terms.
    triples = np.array(list(itertools.combinations(range(128), 3)))
    pairs = np.array(list(itertools.combinations(range(128), 2)))
    g = [np.log1p(-w), np.log1p(-w[pairs].sum(1)), np.log1p(-w[triples].sum(1))]
    exact = math.log(np.exp(x).mean())
    for j, terms in enumerate(g, start=1):
        c = (-1) ** j * (128 - j) ** 3 / (math.factorial(3 - j) * math.factorial(j))
        exact += c * (math.fsum(terms) / len(terms) - math.log1p(-j / 128))
    # The coefficients, of the size of a million, multiply the rounding of the textbook sum.
    assert jackknife(x, 3) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("objective", [objectives.JVI(6, 1), objectives.JVI(6, 3), objectives.DVI(6)], ids=str)
def test_gradients_are_differences(objective: objectives.Objective):
    with scope("float64"):
        x = np.random.default_rng(1).normal(size=6) * 3.0
        steps = 1e-5 * np.eye(6)
        beside = np.asarray(jax.jit(objective.reduce)(jnp.asarray((x + np.concatenate([steps, -steps])).T)))
        found = np.asarray(jax.jit(jax.grad(objective.reduce))(jnp.asarray(x)))
        np.testing.assert_allclose(found, (beside[:6] - beside[6:]) / 2e-5, atol=1e-8)
        # A shift of all log-weights is a shift of the estimate.
        assert found.sum() == pytest.approx(1.0, abs=1e-12)


def test_weights_of_zero():
    # The formulas of the traced version, in NumPy.
    with scope("float64"), np.errstate(divide="ignore", invalid="ignore"):
        reduce = lambda x, m: float(jackknifed(np.asarray(x), m, np))  # noqa: E731
        zero = -np.inf
        # Two weights a >> b: order 1 is 2 L - (log a + log b) / 2 exactly.
        assert reduce([0.0, -1000.0], 1) == pytest.approx(-2 * math.log(2.0) + 500.0, abs=1e-9)
        assert reduce([zero] * 4, 2) == zero
        # No more positive weights than the order: the sets that hold all of them have an infinite logarithm.
        assert [reduce([0.0, zero, zero, zero], m) for m in (1, 2, 3)] == [np.inf] * 3
        assert [reduce([0.0, 0.0, zero, zero], m) for m in (2, 3)] == [zero] * 2
        assert reduce([0.0, 0.0, 0.0, zero, zero], 3) == np.inf
        # One more than the order: finite, and the definition.
        x = np.array([0.3, -1.0, zero, -2.0, zero])
        size, m = 5, 2
        total = 0.0
        for j in range(m + 1):
            kept = [[v for i, v in enumerate(np.exp(x)) if i not in out] for out in
                    itertools.combinations(range(size), j)]  # fmt: skip
            mean = np.mean([math.log(np.sum(k) / (size - j)) for k in kept])
            total += (-1) ** j * (size - j) ** m / (math.factorial(m - j) * math.factorial(j)) * mean
        assert reduce(x, m) == pytest.approx(total, abs=1e-12)
        grad = jax.jit(jax.grad(objectives.JVI(5, 2).reduce))(jnp.asarray(x))
        assert np.isfinite(np.asarray(grad)).all()


def test_rows_beside_one_another_do_not_meet():
    x = np.random.default_rng(2).normal(size=(7, 3, 2)) * 4.0
    with scope("float64"):
        for objective in (objectives.JVI(7, 3), objectives.DVI(7)):
            whole = np.asarray(jax.jit(objective.reduce)(jnp.asarray(x)))
            assert whole.shape == (3, 2)
            assert whole[1, 1] == pytest.approx(float(jax.jit(objective.reduce)(jnp.asarray(x[:, 1, 1]))), abs=1e-13)


def test_the_delta_method_of_gamma_weights():
    # Weights Gamma(a): E log mean + E s^2 / (2 K mean^2) = digamma(K a) - log(K a) + 1 / (2 (K a + 1)) + log a.
    shape, count = 2.0, 8
    w = np.random.default_rng(3).gamma(shape, size=(count, 40_000))
    with scope("float64"):
        found = np.asarray(objectives.DVI(count).reduce(jnp.log(jnp.asarray(w))))
    n = count * shape
    exact = float(digamma(n)) - math.log(n) + 1 / (2 * (n + 1)) + math.log(shape)
    assert abs(found.mean() - exact) < 4.5 * found.std() / math.sqrt(found.size)


@pytest.mark.parametrize("bad", [dict(order=4), dict(order=-1), dict(order=1.0), dict(order=True)])
def test_orders_that_are_none_are_refused(bad: dict):
    with pytest.raises(TautError) as refused:
        objectives.JVI(particles=8, **bad)
    assert refused.value.code == "bad-argument"
    assert "0 to 3" in refused.value.expected


def test_too_few_and_too_many_particles_are_refused():
    with pytest.raises(TautError, match="more weights than the order"):
        objectives.JVI(particles=2, order=2)
    with pytest.raises(TautError, match="at most 406 weights"):
        objectives.JVI(particles=1000, order=3)


def test_it_says_that_it_is_no_bound():
    assert objectives.JVI().bound is None and objectives.DVI().bound is None
    assert "no bound" in str(objectives.JVI()) and "may be worse" in str(objectives.JVI())
