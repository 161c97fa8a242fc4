"""Reparametrisation: the same posterior in other coordinates, with results in the model's own names and space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer.reparam as theirs
import pytest
import scipy.integrate
import scipy.stats

import taut
from taut import TautError, dist, handlers
from taut.guides._unconstrain import unconstrain
from taut.handlers import DCT, Circular, Conjugate, Folded, Haar, LocScale, ProjectedNormal, Reparam, Transformed
from taut.testing import conjugate_normal, eight_schools

stats: Any = scipy.stats
Model = Callable[..., Any]


def latent(fn: Callable[[], Any], name: str = "x") -> Model:
    """A model of one latent."""

    def model() -> None:
        taut.sample(name, fn())

    return model


def scaled(family: Callable[[Any, Any], Any]) -> Model:
    """A latent whose location and scale are latents."""

    def model() -> None:
        m = taut.sample("m", dist.Normal(0.0, 1.0))
        s = taut.sample("s", dist.LogNormal(0.0, 0.5))
        with taut.plate("rows", 3), handlers.scale(scale=2.0):
            taut.sample("x", family(m, s))

    return model


def in_plate(dim: int) -> Model:
    def model() -> None:
        with taut.plate("rows", 2, dim=-1), taut.plate("times", 3, dim=-2):
            taut.sample("x", dist.Gamma(2.0, 1.0))

    return model


TRIL = np.array([[1.0, 0.0], [0.4, 0.7]])
MIDDLE = dist.TransformedDistribution(dist.Gamma(2.0, 1.0), dist.transforms.AffineTransform(1.0, 3.0))

# Strategies under which coordinates and values are one to one.
INVERTIBLE: dict[str, tuple[Model, Reparam]] = {
    "normal": (scaled(dist.Normal), LocScale(0.3)),
    "student": (scaled(lambda m, s: dist.StudentT(4.0, m, s)), LocScale(0.0)),
    "log-normal": (scaled(dist.LogNormal), LocScale(np.array([0.0, 0.5, 1.0]))),
    "learned": (scaled(dist.Normal), LocScale()),
    "vector": (latent(lambda: dist.MultivariateNormal(jnp.ones(2), scale_tril=TRIL)), LocScale(0.6)),
    "base": (latent(lambda: MIDDLE), Transformed()),
    "walk": (scaled(lambda m, s: dist.GaussianRandomWalk(s, num_steps=4)), Transformed()),
    "walks": (
        latent(lambda: dist.GaussianRandomWalk(jnp.array([0.5, 2.0]), num_steps=3).to_event(1)),
        Transformed(),
    ),
    "conjugate normal": (latent(lambda: dist.Normal(0.0, 1.0)), Conjugate(dist.Normal(10.0, 0.5))),
    "conjugate vector": (
        latent(lambda: dist.MultivariateNormal(jnp.ones(2), scale_tril=TRIL)),
        Conjugate(dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2))),
    ),
    "conjugate gamma": (latent(lambda: dist.Gamma(2.0, 3.0)), Conjugate(dist.Gamma(8.0, 2.0))),
    "conjugate beta": (latent(lambda: dist.Beta(2.0, 3.0)), Conjugate(dist.Beta(31.0, 11.0))),
    "conjugate simplex": (
        latent(lambda: dist.Dirichlet(jnp.array([1.0, 2.0, 3.0]))),
        Conjugate(dist.Dirichlet(jnp.array([4.0, 5.0, 6.0]))),
    ),
    "haar": (latent(lambda: dist.Normal(0.0, 1.0).expand([5]).to_event(1)), Haar()),
    "cosines": (latent(lambda: dist.LogNormal(0.0, 1.0).expand([4]).to_event(1)), DCT(smooth=1.0)),
    "haar in plates": (in_plate(-2), Haar(-2)),
}


@pytest.mark.parametrize("name", INVERTIBLE)
def test_the_coordinates_density_is_the_pushforward(name: str):
    model, strategy = INVERTIBLE[name]
    problem = taut.Problem(handlers.reparam(model, {"x": strategy}))
    plain = taut.Problem(model)
    assert list(problem.latents) == list(plain.latents)
    point = 0.4 * np.random.default_rng(0).normal(size=problem.dim + problem.num_params)

    def free(points: np.ndarray) -> np.ndarray:
        """Every latent in numbers that can move freely: a simplex without its last entry."""
        values = problem.constrain(points)
        return np.concatenate(
            [values[n].reshape(len(points), -1)[:, : problem.latents[n].size] for n in problem.latents],
            axis=1,
        )

    h = 1e-5 * np.eye(len(point))[: problem.dim]
    jacobian = (free(point + h) - free(point - h)) / 2e-5
    values = {n: v[0] for n, v in problem.constrain(point[None]).items()}
    expected = float(plain.log_joint({n: values[n] for n in plain.layout})) + np.linalg.slogdet(jacobian)[1]
    # Central differences: an error of h squared, and of rounding over h.
    assert float(problem.log_joint(point)) == pytest.approx(expected, abs=1e-7)
    # The model's own density does not know of it, and values lead back to where they came from.
    assert float(problem.log_joint(values)) == pytest.approx(float(plain.log_joint(values)), abs=1e-12)
    program = problem.program
    with taut.core.empty_stack(), jax.enable_x64(True):
        holes = {n: jnp.asarray(point[problem.layout[n]]) for n in problem.params}
        back = program.evaluate("coordinate", holes, *problem.inputs, values={n: values[n] for n in problem.latents})
    np.testing.assert_allclose(np.ravel(back["x"]), point[problem.layout["x"]], rtol=1e-12, atol=1e-12)


def density(model: Model, strategy: Reparam) -> tuple[taut.Problem, Callable[[Any], float]]:
    problem = taut.Problem(handlers.reparam(model, {"x": strategy}))
    kernel, lam = problem.kernel(), problem.centredness()
    return problem, lambda u: float(np.exp(kernel(np.reshape(u, (1, -1)).astype(float), lam)[0][0]))


@pytest.mark.parametrize(
    "fn, p",
    [
        (dist.FoldedDistribution(dist.Normal(0.7, 1.2)), stats.foldnorm(0.7 / 1.2, scale=1.2).pdf),
        (dist.HalfNormal(2.0), stats.halfnorm(scale=2.0).pdf),
        (dist.HalfCauchy(2.0), stats.halfcauchy(scale=2.0).pdf),
    ],
)
def test_both_sides_of_a_fold_make_the_folded_density(fn: Any, p: Callable[[float], float]):
    problem, q = density(latent(lambda: fn), Folded())
    for x in (0.01, 0.4, 2.3):
        assert q(x) + q(-x) == pytest.approx(p(x), rel=1e-9)
        assert float(problem.constrain(np.array([[-x]]))["x"][0]) == x


def test_the_plane_holds_the_density_of_the_angle():
    problem, q = density(latent(lambda: dist.VonMises(2.5, 1.5)), Circular())
    for angle in (-3.1, 0.3, 2.5, 3.14):
        e = np.array([np.cos(angle), np.sin(angle)])
        total, _ = scipy.integrate.quad(lambda r, e=e: r * q(r * e), 0.05, 8.0, limit=50, epsabs=1e-9)
        assert total == pytest.approx(stats.vonmises(1.5, 2.5).pdf(angle), rel=1e-5)
        np.testing.assert_allclose(problem.constrain(0.7 * e[None])["x"], [angle], rtol=1e-12)


@pytest.mark.parametrize("concentration", [[1.0, -0.5], [0.3, 0.2, 1.1]])
def test_the_length_of_a_normal_vector_integrates_to_the_projected_density(concentration: list[float]):
    fn = dist.ProjectedNormal(jnp.array(concentration))
    problem, q = density(latent(lambda: fn), ProjectedNormal())
    e = np.ones(len(concentration)) / np.sqrt(len(concentration))
    total, _ = scipy.integrate.quad(lambda r: r ** (len(e) - 1) * q(r * e), 0.0, 12.0, epsabs=1e-9)
    with jax.enable_x64(True):
        assert total == pytest.approx(float(jnp.exp(fn.log_prob(jnp.asarray(e)))), rel=1e-5)
    np.testing.assert_allclose(problem.constrain(2.0 * e[None])["x"], [e], rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13])
@pytest.mark.parametrize("wave", [dist.Steps(), dist.Cosines()])
def test_waves_are_orthonormal_and_invertible(wave: Any, n: int):
    with jax.enable_x64(True):
        matrix = np.asarray(wave.forward(jnp.eye(n)))
        back = np.asarray(wave.inverse(jnp.asarray(matrix)))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(back, np.eye(n), atol=1e-12)


def test_smooth_cosines_keep_the_volume_and_whiten_a_walk():
    with jax.enable_x64(True):
        matrix = np.asarray(dist.Cosines(1.0).forward(jnp.eye(32))).T
    assert np.linalg.slogdet(matrix)[1] == pytest.approx(0.0, abs=1e-12)
    walk = np.minimum.outer(np.arange(1, 33), np.arange(1, 33)).astype(float)
    before, after = (np.linalg.cond(a @ walk @ a.T) for a in (np.eye(32), matrix))
    assert after < before / 20


Y = np.array([0.4, 0.9, 0.1, -0.3, 0.2, 1.0, 1.4])


def walk(y: Any) -> None:
    """A walk seen with noise; exact by dense algebra."""
    steps = jnp.asarray(np.tril(np.ones((len(Y), len(Y)))))
    x = taut.sample("x", dist.MultivariateNormal(jnp.zeros(len(Y)), scale_tril=0.5 * steps))
    taut.sample("y", dist.Normal(x, 0.6).to_event(1), obs=y)


def walk_answer() -> tuple[np.ndarray, np.ndarray, float]:
    prior = 0.25 * np.minimum.outer(np.arange(1, 8), np.arange(1, 8))
    noisy = prior + 0.36 * np.eye(7)
    gain = prior @ np.linalg.inv(noisy)
    evidence = stats.multivariate_normal(np.zeros(7), noisy).logpdf(Y)
    return gain @ Y, np.sqrt(np.diag(prior - gain @ prior)), float(evidence)


@pytest.mark.parametrize("strategy", [Haar(), DCT(smooth=1.0)])
def test_the_posterior_of_a_walk_is_the_same_by_its_waves(strategy: Reparam):
    mean, sd, evidence = walk_answer()
    fit = taut.fit(handlers.reparam(walk, {"x": strategy}), dict(y=Y))
    assert fit.sites == ("x",) and fit.verdict.level == "trusted"
    # 16,000 independent draws: 4.5 standard errors of a mean and of a standard deviation.
    np.testing.assert_allclose((fit["x"].mean - mean) / sd, 0.0, atol=0.036)
    np.testing.assert_allclose(fit["x"].sd / sd, 1.0, atol=0.026)
    assert fit.log_evidence == pytest.approx(evidence, abs=1e-6)


def test_conjugate_coordinates_make_the_posterior_standard():
    known = conjugate_normal()
    strategy = Conjugate(dist.Normal(10.0, 0.5))
    fit = taut.fit(handlers.reparam(known.model, {"x": strategy}), known.data, guide=taut.guides.MeanField())
    assert float(fit.params["loc"][0]) == pytest.approx(0.0, abs=1e-6)
    assert fit["x"].mean == pytest.approx(8.0, abs=0.02) and fit.log_evidence == pytest.approx(known.log_evidence)


@pytest.mark.parametrize("config", [{"theta": LocScale(0.0)}, {"theta": LocScale()}, "auto", {"tau": Folded()}])
def test_eight_schools_are_eight_schools_in_any_coordinates(config: Any):
    known = eight_schools()
    fit = taut.fit(handlers.reparam(known.model, config), known.data)
    assert fit.verdict.level != "not trusted"
    assert [n for n in fit.sites if n != "theta_centred"] == ["mu", "tau", "theta"]
    # Particles of SMC: fewer are independent than there are; 5 standard errors of 1,000.
    for name in ("mu", "tau"):
        assert fit[name].mean == pytest.approx(float(known.mean[name]), abs=0.16 * float(known.sd[name]))
    np.testing.assert_allclose(fit["theta"].mean, known.mean["theta"], atol=0.9)
    assert fit.log_evidence == pytest.approx(known.log_evidence, abs=0.05)
    if "theta" in config and config != "auto" and config["theta"] == LocScale():
        # The data of eight schools say little: the best is near the non-centred end.
        assert 0.0 < float(fit["theta_centred"].mean) < 0.5


def test_an_angle_across_the_cut_has_one_mode():
    def model(y: Any) -> None:
        x = taut.sample("x", dist.VonMises(3.0, 1.0))
        taut.sample("y", dist.VonMises(x, 4.0).expand([3]).to_event(1), obs=y)

    y = np.array([3.0, -2.9, -3.1])
    grid = np.linspace(-np.pi, np.pi, 20001)[:-1]
    log_p = stats.vonmises(1.0, 3.0).logpdf(grid) + sum(stats.vonmises(4.0).logpdf(v - grid) for v in y)
    p = np.exp(log_p) * (grid[1] - grid[0])
    evidence, p = np.log(p.sum()), p / p.sum()
    fit = taut.fit(handlers.reparam(model, "auto"), dict(y=y))
    assert fit.verdict.level != "not trusted" and fit.problem is not None
    assert fit.problem.latents["x"].transform == "plane"
    resultant = (p * np.cos(grid)).sum(), (p * np.sin(grid)).sum()
    draws = fit.draws(4000)["x"]
    # Cosines have a standard deviation below 0.1 here, sines below 0.3.
    np.testing.assert_allclose((np.cos(draws).mean(), np.sin(draws).mean()), resultant, atol=0.02)
    assert fit.log_evidence == pytest.approx(evidence, abs=0.03)


def test_values_from_elsewhere_find_the_latent_under_its_own_name():
    known = eight_schools()
    model = handlers.reparam(known.model, {"theta": LocScale(0.0)})
    values = {"mu": 1.0, "tau": 2.0, "theta": np.arange(8.0)}
    expected = float(known.problem().log_joint(values))
    for outer in (handlers.substitute, handlers.condition):
        wrapped = handlers.trace(outer(handlers.seed(model, 0), values)).get_trace(**known.data)
        with jax.enable_x64(True):
            found = sum(float(jnp.sum(taut.core.log_density(s))) for s in wrapped.values() if s.kind == "sample")
        assert found == pytest.approx(expected, rel=1e-5)
    tau = taut.Problem(handlers.condition(model, {"tau": 2.0}), known.data)
    assert list(tau.latents) == ["mu", "theta"]
    # Inside of the handler, too: a latent that is given is left alone.
    inner = handlers.reparam(handlers.condition(known.model, {"theta": np.arange(8.0)}), {"theta": LocScale()})
    assert list(taut.Problem(inner, known.data).latents) == ["mu", "tau"] and not taut.Problem(inner, known.data).params


def test_predictions_and_guides_by_hand_are_in_the_models_space():
    known = conjugate_normal()
    model = handlers.reparam(known.model, {"x": Conjugate(dist.Normal(10.0, 0.5))})

    def guide() -> None:
        scale = taut.param("scale", 1.0, constraint=dist.constraints.positive)
        taut.sample("x", dist.Normal(taut.param("loc", 0.0), scale))

    fit = taut.fit(model, known.data, guide=guide)
    assert float(fit.params["loc"]) == pytest.approx(8.0, abs=0.05)
    # The predictive variance is 0.2 + 0.25; 4,000 draws.
    assert fit.predict()["y"].mean() == pytest.approx(8.0, abs=0.05)
    assert fit.predict()["y"].std() == pytest.approx(np.sqrt(0.45), abs=0.04)


def test_strategies_of_numpyros_are_read():
    known = eight_schools()
    one = taut.Problem(handlers.reparam(known.model, {"theta": theirs.LocScaleReparam(0)}), known.data)
    two = taut.Problem(handlers.reparam(known.model, {"theta": LocScale(0.0)}), known.data)
    assert one.program == two.program


def discrete_rows() -> None:
    taut.sample("x", dist.Normal(0.0, 1.0))
    taut.sample("p", dist.Dirichlet(jnp.ones(3)))
    taut.sample("z", dist.Normal(0.0, 1.0), obs=0.5)


@pytest.mark.parametrize(
    "config, code, words",
    [
        ({"x": Folded()}, "bad-combination", "HalfNormal"),
        ({"p": LocScale(0.0)}, "bad-combination", "a location and a scale"),
        ({"p": Haar(-2)}, "bad-combination", "that dimension"),
        ({"x": Conjugate(dist.Gamma(1.0, 1.0))}, "bad-combination", "both Normal"),
        ({"x": Circular()}, "bad-combination", "circle"),
        ({"y": Haar()}, "site-missing", "the program has x, p, z"),
        ({"z": LocScale(0.0)}, "bad-combination", "is observed"),
        ({"x": LocScale(np.zeros(4))}, "bad-combination", "broadcasts to the latent"),
        ({"x": Conjugate(dist.Normal(np.zeros(4), 1.0))}, "bad-combination", "broadcasts to the latent's"),
        ({"x": LocScale}, "bad-argument", "LocScale(0.0)"),
        ({"x": 0.5}, "bad-argument", "float as a strategy"),
        ("automatic", "bad-argument", '"auto"'),
        (None, "bad-argument", '"auto"'),
    ],
)
def test_what_is_refused(config: Any, code: str, words: str):
    with pytest.raises(TautError) as refused:
        taut.Problem(handlers.reparam(discrete_rows, config))
    assert refused.value.code == code and words in str(refused.value)


@pytest.mark.parametrize(
    "made", [lambda: LocScale(1.5), lambda: LocScale("free"), lambda: Haar(0), lambda: Circular(0.0)]
)
def test_strategies_check_their_arguments(made: Callable[[], Any]):
    with pytest.raises(TautError, match="bad-argument"):
        made()


def test_rows_of_a_batch_have_no_waves():
    def model(y):
        with taut.plate("rows", len(y), subsample_size=2) as rows, taut.plate("times", 4, dim=-2):
            x = taut.sample("x", dist.Normal(0.0, 1.0))
            taut.sample("y", dist.Normal(x, 1.0), obs=y[:, rows])

    data = dict(y=np.zeros((4, 6)))
    for strategy in (DCT(-1), Haar(-1)):
        with pytest.raises(TautError, match="subsampled plate 'rows'"):
            taut.Problem(handlers.reparam(model, {"x": strategy}), data, subsample=True)
        taut.Problem(handlers.reparam(model, {"x": strategy}), data)
    taut.Problem(handlers.reparam(model, {"x": DCT(-2)}), data, subsample=True)


def test_strategies_are_values():
    given = np.array([0.0, 0.5])
    assert LocScale(given) == LocScale([0.0, 0.5]) and hash(LocScale(given)) == hash(LocScale([0.0, 0.5]))


def test_what_condition_observes_is_left_alone():
    inner = handlers.condition(discrete_rows, {"x": 0.3})
    assert list(taut.Problem(handlers.reparam(inner, {"x": LocScale(0.0)})).latents) == ["p"]


def test_a_function_may_choose():
    def choose(site: Any) -> Any:
        return LocScale(0.0) if site.name == "theta" else None

    known = eight_schools()
    problem = taut.Problem(handlers.reparam(known.model, choose), known.data)
    assert {n: s.transform for n, s in problem.latents.items()} == {"mu": "identity", "tau": "exp", "theta": "centred"}


def test_starts_are_given_in_the_models_space():
    known = eight_schools()
    for strategy in (LocScale(0.0), LocScale(0.4)):
        problem = taut.Problem(handlers.reparam(known.model, {"theta": strategy}), known.data)
        given = {"mu": np.array([1.0]), "tau": np.array([2.0]), "theta": np.arange(8.0)[None]}
        u = unconstrain(problem, given, np.zeros((1, problem.dim)), problem.centredness())
        np.testing.assert_allclose(problem.constrain(u)["theta"], given["theta"], atol=1e-12)
