"""Every name of NumPyro's distributions is a latent whose density is right, or is refused with a reason.

Independent sources: quadrature for one-dimensional latents (the density of the coordinate integrates to 1), the
change-of-variables formula with finite differences of the map for the others, finite differences for gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as numpyro_distributions
import pytest

import taut
from taut import TautError, dist
from taut.dist import constraints, transforms
from taut.problem import Problem
from taut.problem._kernel import fill

A = np.array
CORR = A([[1.0, 0.5, 0.2], [0.5, 1.0, 0.3], [0.2, 0.3, 1.0]])
TRIL = np.linalg.cholesky(CORR)
LOC = A([0.0, 1.0, 2.0])
CHAIN = A([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def _mixing() -> Any:
    return dist.Categorical(A([0.3, 0.7]))


# Name of the class or function, then a word where one is tried in several ways.
LATENTS: dict[str, Callable[[], Any]] = {
    "AsymmetricLaplace": lambda: dist.AsymmetricLaplace(0.5, 1.5, 0.7),
    "AsymmetricLaplaceQuantile": lambda: dist.AsymmetricLaplaceQuantile(0.5, 1.5, 0.7),
    "Beta": lambda: dist.Beta(2.0, 3.0),
    "BetaProportion": lambda: dist.BetaProportion(0.4, 5.0),
    "CAR": lambda: dist.CAR(LOC, 0.5, 2.0, CHAIN),
    "Cauchy": lambda: dist.Cauchy(1.0, 2.0),
    "Chi2": lambda: dist.Chi2(3.0),
    "CirculantNormal": lambda: dist.CirculantNormal(A([0.0, 1.0, 2.0, 3.0]), A([1.0, 0.4, 0.2, 0.4])),
    "CirculantNormal odd": lambda: dist.CirculantNormal(np.arange(5.0), A([1.0, 0.4, 0.2, 0.2, 0.4])),
    "Dagum": lambda: dist.Dagum(2.0, 3.0, 1.5),
    "Dirichlet": lambda: dist.Dirichlet(A([1.0, 2.0, 3.0])),
    "Dirichlet pair": lambda: dist.Dirichlet(A([1.5, 2.0])),
    "DoublyTruncatedPowerLaw": lambda: dist.DoublyTruncatedPowerLaw(-2.0, 1.0, 3.0),
    "EulerMaruyama": lambda: dist.EulerMaruyama(A([0.0, 0.1, 0.3]), lambda x, t: (-x, 0.5), dist.Normal(0.0, 1.0)),
    "Exponential": lambda: dist.Exponential(2.0),
    "FoldedDistribution": lambda: dist.FoldedDistribution(dist.Normal(0.5, 1.0)),
    "Gamma": lambda: dist.Gamma(2.0, 3.0),
    "GaussianCopula": lambda: dist.GaussianCopula(dist.Normal(0.0, 2.0), CORR),
    "GaussianCopula gamma": lambda: dist.GaussianCopula(dist.Gamma(2.0, 2.0), CORR),
    "GaussianCopulaBeta": lambda: dist.GaussianCopulaBeta(2.0, 3.0, CORR),
    "GaussianRandomWalk": lambda: dist.GaussianRandomWalk(0.5, 4),
    "GaussianStateSpace": lambda: dist.GaussianStateSpace(
        3, A([[0.5, 0.1], [0.0, 0.8]]), covariance_matrix=A([[1.0, 0.2], [0.2, 1.0]])
    ),
    "Gompertz": lambda: dist.Gompertz(1.5, 0.7),
    "Gumbel": lambda: dist.Gumbel(0.5, 2.0),
    "HalfCauchy": lambda: dist.HalfCauchy(2.0),
    "HalfNormal": lambda: dist.HalfNormal(2.0),
    "InverseGamma": lambda: dist.InverseGamma(3.0, 2.0),
    "InverseWishart": lambda: dist.InverseWishart(5.0, scale_matrix=CORR),
    "InverseWishart scalar": lambda: dist.InverseWishart(5.0, scale_matrix=A([[2.0]])),
    "InverseWishartCholesky": lambda: dist.InverseWishartCholesky(5.0, scale_matrix=CORR),
    "Kumaraswamy": lambda: dist.Kumaraswamy(2.0, 3.0),
    "Laplace": lambda: dist.Laplace(0.5, 2.0),
    "LeftTruncatedDistribution": lambda: dist.LeftTruncatedDistribution(dist.Normal(0.0, 1.0), 0.5),
    "LeftTruncatedGamma": lambda: dist.LeftTruncatedGamma(dist.Gamma(2.0, 3.0), 0.5),
    "Levy": lambda: dist.Levy(1.0, 2.0),
    "LKJ": lambda: dist.LKJ(3, 2.0),
    "LKJ pair": lambda: dist.LKJ(2, 1.5),
    "LKJCholesky": lambda: dist.LKJCholesky(3, 2.0),
    "LKJCholesky pair": lambda: dist.LKJCholesky(2, 1.5),
    "Logistic": lambda: dist.Logistic(0.5, 2.0),
    "LogNormal": lambda: dist.LogNormal(0.5, 0.7),
    "LogUniform": lambda: dist.LogUniform(1.0, 3.0),
    "LowerTruncatedPowerLaw": lambda: dist.LowerTruncatedPowerLaw(-2.0, 1.0),
    "LowRankMultivariateNormal": lambda: dist.LowRankMultivariateNormal(
        LOC, A([[1.0], [0.5], [0.2]]), A([1.0, 0.5, 2])
    ),
    "MatrixNormal": lambda: dist.MatrixNormal(np.zeros((2, 3)), TRIL[:2, :2], TRIL),
    "MixtureGeneral": lambda: dist.MixtureGeneral(_mixing(), [dist.Normal(0.0, 1.0), dist.Laplace(2.0, 1.0)]),
    "Mixture": lambda: dist.Mixture(_mixing(), [dist.Gamma(2.0, 1.0), dist.LogNormal(2.0, 1.0)]),
    "MixtureSameFamily": lambda: dist.MixtureSameFamily(_mixing(), dist.Normal(A([0.0, 1.0]), A([1.0, 2.0]))),
    "MultivariateNormal": lambda: dist.MultivariateNormal(LOC, CORR),
    "MultivariateNormal precision": lambda: dist.MultivariateNormal(LOC, precision_matrix=CORR),
    "MultivariateStudentT": lambda: dist.MultivariateStudentT(4.0, LOC, TRIL),
    "Normal": lambda: dist.Normal(0.5, 2.0),
    "Pareto": lambda: dist.Pareto(2.0, 3.0),
    "ProjectedNormal": lambda: dist.ProjectedNormal(A([1.0, 0.5])),
    "ProjectedNormal sphere": lambda: dist.ProjectedNormal(A([1.0, 0.5, 0.2])),
    "RelaxedBernoulli": lambda: dist.RelaxedBernoulli(0.7, probs=0.3),
    "RelaxedBernoulliLogits": lambda: dist.RelaxedBernoulliLogits(0.7, 0.3),
    "RightTruncatedDistribution": lambda: dist.RightTruncatedDistribution(dist.Normal(0.0, 1.0), 0.5),
    "RightTruncatedGamma": lambda: dist.RightTruncatedGamma(dist.Gamma(2.0, 3.0), 0.5),
    "SineBivariateVonMises": lambda: dist.SineBivariateVonMises(0.5, 0.2, 1.0, 2.0, 0.6),
    "SineSkewed": lambda: dist.SineSkewed(dist.VonMises(A([0.5]), 1.0).to_event(1), A([0.4])),
    "SineSkewed torus": lambda: dist.SineSkewed(dist.SineBivariateVonMises(0.5, 0.2, 1.0, 2.0, 0.6), A([0.2, 0.3])),
    "SoftLaplace": lambda: dist.SoftLaplace(0.5, 2.0),
    "StudentT": lambda: dist.StudentT(3.0, 0.5, 2.0),
    "TransformedDistribution": lambda: dist.TransformedDistribution(dist.Normal(0.0, 1.0), transforms.ExpTransform()),
    # Parts that disagree: the affine map takes its input to be real, and would declare the whole line the support.
    "TransformedDistribution shifted": lambda: dist.TransformedDistribution(
        dist.Gamma(2.0, 1.0), transforms.AffineTransform(1.0, 2.0)
    ),
    "TransformedDistribution above one": lambda: dist.TransformedDistribution(
        dist.HalfNormal(1.0), transforms.ExpTransform()
    ),
    "TruncatedCauchy": lambda: dist.TruncatedCauchy(0.0, 1.0, low=-1.0, high=2.0),
    "TruncatedDistribution": lambda: dist.TruncatedDistribution(dist.StudentT(3.0, 0.0, 1.0), low=-1.0, high=2.0),
    "TruncatedGamma": lambda: dist.TruncatedGamma(2.0, 1.0, low=0.5, high=2.0),
    "TruncatedNormal": lambda: dist.TruncatedNormal(0.0, 1.0, low=-1.0, high=2.0),
    "TruncatedPolyaGamma": lambda: dist.TruncatedPolyaGamma(),
    "TwoSidedTruncatedDistribution": lambda: dist.TwoSidedTruncatedDistribution(dist.Laplace(0.0, 1.0), -1.0, 2.0),
    "TwoSidedTruncatedGamma": lambda: dist.TwoSidedTruncatedGamma(dist.Gamma(2.0, 1.0), 0.5, 2.0),
    "Uniform": lambda: dist.Uniform(-1.0, 3.0),
    "VonMises": lambda: dist.VonMises(0.5, 2.0),
    "Weibull": lambda: dist.Weibull(2.0, 1.5),
    "Wishart": lambda: dist.Wishart(5.0, scale_matrix=CORR),
    "Wishart scalar": lambda: dist.Wishart(5.0, scale_matrix=A([[2.0]])),
    "WishartCholesky": lambda: dist.WishartCholesky(5.0, scale_matrix=CORR),
    "ZeroSumNormal": lambda: dist.ZeroSumNormal(1.5, (4,)),
    "ZeroSumNormal pair": lambda: dist.ZeroSumNormal(1.5, (2,)),
    "ZeroSumNormal table": lambda: dist.ZeroSumNormal(1.5, (3, 4)),
    # Wrappers
    "ExpandedDistribution": lambda: dist.Gamma(2.0, 1.0).expand((2,)),
    "Independent": lambda: dist.Gamma(A([2.0, 3.0]), 1.0).to_event(1),
    "MaskedDistribution": lambda: dist.MaskedDistribution(dist.Normal(0.0, 1.0), True),
}

IMPROPER: dict[str, Callable[[], Any]] = {
    "ImproperUniform real": lambda: dist.ImproperUniform(constraints.real, (), ()),
    "ImproperUniform positive": lambda: dist.ImproperUniform(constraints.positive, (), ()),
    "ImproperUniform ordered": lambda: dist.ImproperUniform(constraints.ordered_vector, (), (3,)),
    "ImproperUniform simplex": lambda: dist.ImproperUniform(constraints.simplex, (), (3,)),
}

# The refusal's code, and the distribution.
REFUSED: dict[str, tuple[str, Callable[[], Any]]] = {
    "Bernoulli": ("discrete-latent", lambda: dist.Bernoulli(0.3)),
    "BernoulliLogits": ("discrete-latent", lambda: dist.BernoulliLogits(0.3)),
    "BernoulliProbs": ("discrete-latent", lambda: dist.BernoulliProbs(0.3)),
    "BetaBinomial": ("discrete-latent", lambda: dist.BetaBinomial(1.0, 1.0, 5)),
    "BetaNegativeBinomial": ("discrete-latent", lambda: dist.BetaNegativeBinomial(2.0, 1.0, 5)),
    "Binomial": ("discrete-latent", lambda: dist.Binomial(5, 0.3)),
    "BinomialLogits": ("discrete-latent", lambda: dist.BinomialLogits(0.3, 5)),
    "BinomialProbs": ("discrete-latent", lambda: dist.BinomialProbs(0.3, 5)),
    "Categorical": ("discrete-latent", lambda: dist.Categorical(A([0.3, 0.7]))),
    "CategoricalLogits": ("discrete-latent", lambda: dist.CategoricalLogits(A([0.3, 0.7]))),
    "CategoricalProbs": ("discrete-latent", lambda: dist.CategoricalProbs(A([0.3, 0.7]))),
    "DirichletMultinomial": ("discrete-latent", lambda: dist.DirichletMultinomial(A([1.0, 2.0]), 5)),
    "DiscreteUniform": ("discrete-latent", lambda: dist.DiscreteUniform(0, 3)),
    "GammaPoisson": ("discrete-latent", lambda: dist.GammaPoisson(2.0, 1.0)),
    "Geometric": ("discrete-latent", lambda: dist.Geometric(0.3)),
    "GeometricLogits": ("discrete-latent", lambda: dist.GeometricLogits(0.3)),
    "GeometricProbs": ("discrete-latent", lambda: dist.GeometricProbs(0.3)),
    "HurdleNegativeBinomial2": ("discrete-latent", lambda: dist.HurdleNegativeBinomial2(0.3, 2.0, 1.0)),
    "HurdlePoisson": ("discrete-latent", lambda: dist.HurdlePoisson(0.3, 2.0)),
    "Multinomial": ("discrete-latent", lambda: dist.Multinomial(5, A([0.3, 0.7]))),
    "MultinomialLogits": ("discrete-latent", lambda: dist.MultinomialLogits(A([0.3, 0.7]), 5)),
    "MultinomialProbs": ("discrete-latent", lambda: dist.MultinomialProbs(A([0.3, 0.7]), 5)),
    "NegativeBinomial": ("discrete-latent", lambda: dist.NegativeBinomial(3, 0.3)),
    "NegativeBinomial2": ("discrete-latent", lambda: dist.NegativeBinomial2(3.0, 2.0)),
    "NegativeBinomialLogits": ("discrete-latent", lambda: dist.NegativeBinomialLogits(3, 0.3)),
    "NegativeBinomialProbs": ("discrete-latent", lambda: dist.NegativeBinomialProbs(3, 0.3)),
    "OrderedLogistic": ("discrete-latent", lambda: dist.OrderedLogistic(0.3, A([-1.0, 1.0]))),
    "Poisson": ("discrete-latent", lambda: dist.Poisson(2.0)),
    "ZeroInflatedDistribution": ("discrete-latent", lambda: dist.ZeroInflatedDistribution(dist.Poisson(2.0), gate=0.3)),
    "ZeroInflatedLogits": ("discrete-latent", lambda: dist.ZeroInflatedLogits(dist.Poisson(2.0), 0.3)),
    "ZeroInflatedNegativeBinomial2": (
        "discrete-latent",
        lambda: dist.ZeroInflatedNegativeBinomial2(3.0, 2.0, gate=0.3),
    ),
    "ZeroInflatedPoisson": ("discrete-latent", lambda: dist.ZeroInflatedPoisson(0.3, 2.0)),
    "ZeroInflatedProbs": ("discrete-latent", lambda: dist.ZeroInflatedProbs(dist.Poisson(2.0), 0.3)),
    # A lump of probability on 0 and a density elsewhere.
    "HurdleDistribution": ("discrete-latent", lambda: dist.HurdleDistribution(dist.Gamma(2.0, 1.0), gate=0.3)),
    "HurdleGamma": ("discrete-latent", lambda: dist.HurdleGamma(0.3, 2.0, 1.0)),
    "HurdleLogits": ("discrete-latent", lambda: dist.HurdleLogits(dist.Gamma(2.0, 1.0), 0.3)),
    "HurdleLogNormal": ("discrete-latent", lambda: dist.HurdleLogNormal(0.3, 2.0, 1.0)),
    "HurdleProbs": ("discrete-latent", lambda: dist.HurdleProbs(dist.Gamma(2.0, 1.0), 0.3)),
    # No density at all.
    "Delta": ("no-transform", lambda: dist.Delta(1.0)),
    "Unit": ("no-transform", lambda: dist.Unit(0.5)),
    "LeftCensoredDistribution": ("no-transform", lambda: dist.LeftCensoredDistribution(dist.Normal(0.0, 1.0), True)),
    "RightCensoredDistribution": ("no-transform", lambda: dist.RightCensoredDistribution(dist.Normal(0.0, 1.0), True)),
    "IntervalCensoredDistribution": (
        "no-transform",
        lambda: dist.IntervalCensoredDistribution(dist.Normal(0.0, 1.0), 0.0, 1.0),
    ),
    "ProjectedNormal in four dimensions": ("no-transform", lambda: dist.ProjectedNormal(np.ones(4))),
}

NOT_DISTRIBUTIONS = {"biject_to", "constraints", "kl_divergence", "transforms", "Distribution"}


def test_every_name_is_in_one_of_the_lists():
    listed = {name.split()[0] for name in (*LATENTS, *IMPROPER, *REFUSED)} | NOT_DISTRIBUTIONS
    assert listed == set(numpyro_distributions.__all__)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_density_is_refused(name: str):
    code, make = REFUSED[name]

    def model():
        taut.sample("x", make())

    with pytest.raises(TautError) as caught:
        Problem(model)
    assert (caught.value.code, caught.value.site) == (code, "x")


def _evaluate(name: str, rows: int, points: Callable[[int], np.ndarray]) -> tuple[Problem, tuple[np.ndarray, ...]]:
    """Of one latent, or of ``rows`` of it in a plate: values, densities of the coordinate, their gradients, densities
    in the model's own space as the distribution has them, and whether the values lie in the support."""
    make = {**LATENTS, **IMPROPER}[name]

    def model():
        if rows:
            with taut.plate("rows", rows):
                taut.sample("x", make())
        else:
            taut.sample("x", make())

    problem = Problem(model)
    inputs = problem.inputs

    def value(z: Any) -> Any:
        return problem.program.evaluate("value", fill(problem.program, z, problem.centredness()), *inputs)["x"]

    def one(z: Any) -> tuple[Any, ...]:
        x, fn = value(z), make()
        return x, *jax.value_and_grad(problem.log_joint)(z), jnp.sum(fn.log_prob(x)), jnp.all(fn.support(x))

    # Nothing here runs long: most of the time would go into optimising what is compiled.
    compiled = jax.jit(jax.vmap(one), compiler_options={"xla_backend_optimization_level": 0})
    with jax.enable_x64(True):
        found = compiled(points(problem.dim))
        return problem, tuple(np.asarray(part) for part in found)


# On the line; what lies beyond +-4051 is nothing, except for Cauchy (1e-4 of its mass).
GRID = np.linspace(-9.0, 9.0, 2561)
SCALAR = [n for n, make in LATENTS.items() if make().shape() == ()]
PAIRS = [n for n in LATENTS if n.endswith((" pair", " scalar")) or n == "SineSkewed"]


@pytest.mark.parametrize("name", [*SCALAR, *PAIRS])
def test_one_dimensional_coordinates_integrate_to_one(name: str):
    problem, (values, densities, gradients, _, supported) = _evaluate(name, 0, lambda dim: np.sinh(GRID)[:, None])
    assert problem.dim == 1
    tolerance = {"Cauchy": 5e-4}.get(name, 1e-5)
    # As the kernel has it: a density that is not finite, at |u| > 700 where exp(u) overflows, is none.
    density = np.exp(np.where(np.isfinite(densities), densities, -np.inf))
    total = np.sum(density * np.cosh(GRID) * (GRID[1] - GRID[0]))
    assert abs(total - 1.0) < tolerance
    near = np.abs(GRID) < 1.2
    assert supported[near].all()
    # The slope over the grid, by central differences of fourth order: their error is of order (0.007)^4 = 2e-9, but
    # for the kinks of the Laplace family.
    grid, density, inside = GRID[near], densities[near], _smooth(name, values[near])[2:-2]
    slope = (8 * (density[3:-1] - density[1:-3]) - (density[4:] - density[:-4])) / (12 * (grid[1] - grid[0]))
    expected = slope / np.cosh(grid[2:-2])
    np.testing.assert_allclose(gradients[near][2:-2, 0][inside], expected[inside], rtol=1e-5, atol=1e-5)


def _smooth(name: str, values: np.ndarray) -> np.ndarray:
    kink = {"Mixture": None, "MixtureGeneral": 2.0, "TwoSidedTruncatedDistribution": 0.0}.get(name, 0.5)
    kinked = "Laplace" in name or name in ("MixtureGeneral", "TwoSidedTruncatedDistribution")
    return np.abs(values.ravel() - kink) > 0.05 if kinked else np.ones(len(values), bool)


def _chart(support: Any, values: np.ndarray) -> np.ndarray:
    """The entries that the density of a constrained value is written in: ``(n, *event, ...) -> (n, d, ...)``."""
    support = getattr(support, "base_constraint", support)
    name = type(support).__name__.lstrip("_")
    if name == "Simplex":
        return values[:, :-1]
    if name in ("CorrMatrix", "CorrCholesky"):
        rows, columns = np.tril_indices(values.shape[1], -1)
        return values[:, rows, columns]
    if name in ("PositiveDefinite", "LowerCholesky"):
        rows, columns = np.tril_indices(values.shape[1])
        return values[:, rows, columns]
    return values


SPHERES = [n for n in LATENTS if n.startswith("ProjectedNormal")]
WIDE = [n for n in LATENTS if n not in (*SCALAR, *PAIRS, *SPHERES, "ExpandedDistribution")]


@pytest.mark.parametrize("name", [*WIDE, *IMPROPER])
def test_the_density_of_the_coordinate_follows_from_the_map(name: str):
    rows, rng = 2, np.random.default_rng(0)

    def points(dim: int) -> np.ndarray:
        start = rng.normal(size=dim)
        return np.concatenate([start[None], start + 1e-5 * np.eye(dim), start - 1e-5 * np.eye(dim)])

    problem, (values, densities, gradients, own, supported) = _evaluate(name, rows, points)
    size = problem.dim // rows
    support = {**LATENTS, **IMPROPER}[name]().support
    assert supported.all()
    volume, (ahead, behind) = 0.0, values[1:].reshape(2, problem.dim, *values.shape[1:])
    for row in range(rows):
        slope = _chart(support, (ahead - behind)[row * size : (row + 1) * size, row] / 2e-5).reshape(size, -1)
        # Volume of the image: of as many dimensions as the coordinate, also in a larger space (zero sums).
        volume += np.linalg.slogdet(slope @ slope.T)[1] / 2
    # Central differences of steps 1e-5: an error of 1e-10 by curvature, 30 * 2e-16 / 1e-5 = 6e-10 by rounding.
    np.testing.assert_allclose(densities[0], own[0] + volume, rtol=1e-7, atol=1e-7)
    above, below = densities[1:].reshape(2, -1)
    np.testing.assert_allclose(gradients[0], (above - below) / 2e-5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SPHERES)
def test_a_direction_has_the_density_of_its_distribution(name: str):
    # The coordinate is a vector; along a ray it integrates, with r^(d-1), to the density of the direction.
    fn, radius = LATENTS[name](), np.linspace(1e-6, 12.0, 2001)
    direction = np.ones(fn.event_shape) / np.sqrt(fn.event_shape[0])
    _, (values, densities, *_) = _evaluate(name, 0, lambda dim: radius[:, None] * direction)
    np.testing.assert_allclose(values, np.broadcast_to(direction, values.shape), atol=1e-12)
    integrand = np.exp(densities) * radius ** (fn.event_shape[0] - 1)
    np.testing.assert_allclose(np.trapezoid(integrand, radius), np.exp(fn.log_prob(direction)), rtol=1e-5)
