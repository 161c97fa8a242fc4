"""What SVI takes by default, and what it refuses of objective, gradient estimator, noise and guide before it starts."""

from __future__ import annotations

from taut._errors import TautError
from taut.algorithms._priors import check_learned_priors
from taut.gradients import (
    DoublyReparam,
    Fixed,
    GeneralizedDoublyReparam,
    GradientEstimator,
    Noise,
    Pathwise,
    QuadraticControl,
    ScoreFunction,
    StickingTheLanding,
    Wake,
    kind_of,
)
from taut.guides import FullRank, Guide, LowRank, MeanField, NoiseGuide
from taut.objectives import RWS, BatchELBO, ForwardKL, Objective
from taut.problem import Problem

# Above so many latents a Hessian in every step costs more than it saves.
_MOST_LATENTS = 500


def default_estimator(objective: Objective, noise: Noise, still: bool = False) -> GradientEstimator:
    """The estimator where the user names none.

    Args:
        objective: what is maximised.
        noise: where the guide's noise comes from.
        still: the guide has draws that do not follow their parameters.
    """
    kind = kind_of(objective)
    if kind == "own gradient":
        return Wake() if still or isinstance(objective, ForwardKL | RWS) or noise.sort != "fresh" else DoublyReparam()
    if still:
        return ScoreFunction()
    if noise.sort == "fixed" or (noise.sort == "balanced" and kind == "logarithm"):
        return Pathwise()
    return StickingTheLanding() if kind == "mean" else DoublyReparam()


def check_combination(
    problem: Problem, guide: Guide, objective: Objective, estimator: GradientEstimator, noise: Noise, steps: int
) -> None:
    """Refuse what the objective, the estimator, the noise, the guide and the model cannot do together.

    Raises:
        TautError: ``bad-combination``.
    """
    estimator.valid_for(objective)
    named = str(objective)
    inner = getattr(objective, "objective", objective)
    if problem.num_params and not inner.learns_model:
        name = next(iter(problem.params))
        raise TautError(
            "bad-combination",
            site=name,
            source=problem.params[name].source,
            found=f"{type(inner).__name__} for a model with parameters of its own: {', '.join(problem.params)}",
            expected="an objective that the evidence rises with: lowering an upper bound would lower the evidence",
            remedy="objective=taut.objectives.RWS(), or IWAE(particles=16)",
        )
    if steps <= objective.warm_up:
        raise TautError(
            "bad-combination",
            site="steps",
            found=f"{steps} steps with {named}",
            expected="more steps than the schedule has: at its end the weight must be 1",
            remedy=f"taut.algorithms.SVI(steps={4 * objective.warm_up})",
        )
    _check_noise_guide(problem, guide, objective, noise)
    _check_by_rows(guide, objective, estimator)
    if isinstance(inner, BatchELBO) and problem.batches and len(problem.batches) != inner.weights.batches:
        raise TautError(
            "kl-weights",
            found=f"weights for {inner.weights.batches} batches, and {len(problem.batches)} batches in an epoch",
            expected="one weight per batch, so that an epoch has them all once",
            remedy=f"taut.objectives.{type(inner.weights).__name__}({len(problem.batches)})",
        )
    local = [s for s in problem.latents.values() if set(s.plates) & set(problem.program.outputs["rows"])]
    if isinstance(inner, BatchELBO) and local:
        raise TautError(
            "bad-combination",
            site=local[0].name,
            source=local[0].source,
            found=f"{named}, and a latent of rows, whose KL term belongs to their own batch",
            expected="latents that all batches share, such as the weights of a network",
            remedy="objective=taut.objectives.ELBO()",
        )
    if isinstance(estimator, QuadraticControl):
        _check_gaussian(problem, guide, objective)
    if isinstance(estimator, GeneralizedDoublyReparam):
        check_learned_priors(problem, guide)


def _check_by_rows(guide: Guide, objective: Objective, estimator: GradientEstimator) -> None:
    """Noise of its own for every row: each row's draw is another, so that nothing but means can be taken of them."""
    if not guide.by_rows or (kind_of(objective) == "mean" and isinstance(estimator, Pathwise)):
        return
    name = type(guide).__name__
    if kind_of(objective) != "mean":
        raise TautError(
            "bad-combination",
            site="objective",
            found=f"{name} with {objective}",
            expected="a mean of log-weights, the ELBO: a logarithm of a mean needs one draw for all rows",
            remedy="objective=taut.objectives.ELBO(), or guide=taut.guides.MeanField()",
        )
    raise TautError(
        "bad-combination",
        site="gradient",
        found=f"{name} with {type(estimator).__name__}",
        expected="Pathwise: the rows have noise of their own, which the noise of log q does not cancel",
        remedy="gradient=taut.gradients.Pathwise()",
    )


def _check_noise_guide(problem: Problem, guide: Guide, objective: Objective, noise: Noise) -> None:
    if noise.sort == "fresh":
        return
    name = type(noise).__name__
    if not isinstance(guide, NoiseGuide):
        raise TautError(
            "bad-combination",
            site="noise",
            found=f"{name} noise for {type(guide).__name__}",
            expected="a guide whose draws are a function of standard normal noise: MeanField, FullRank, LowRank, a "
            "flow; others draw for themselves",
            remedy="noise=taut.gradients.Fresh()",
        )
    size = guide.noise_size(problem.program)
    # A full covariance can be stretched without end along a direction that no draw has.
    least = size + 1 if isinstance(guide, FullRank) else 2
    if isinstance(noise, Fixed) and objective.draws < least:
        raise TautError(
            "bad-combination",
            site="noise",
            found=f"Fixed noise of {objective.draws} draws for {type(guide).__name__} of {size} latents",
            expected=f"at least {least} draws: with fewer the objective of these draws has no maximum",
            remedy=f"objective=taut.objectives.ELBO(particles={max(4 * size, 64)})",
        )


def _check_gaussian(problem: Problem, guide: Guide, objective: Objective) -> None:
    if objective.closed_form or objective.kl_weight() is not None or objective.warm_up:
        raise TautError(
            "bad-combination",
            site="gradient",
            found=f"QuadraticControl with {objective}",
            expected="an ELBO whose terms are all sampled, at weight 1: the model that it subtracts is of log p",
            remedy="objective=taut.objectives.ELBO()",
        )
    if not isinstance(guide, MeanField | FullRank | LowRank):
        raise TautError(
            "bad-combination",
            site="gradient",
            found=f"QuadraticControl for {type(guide).__name__}",
            expected="a Gaussian guide on the real line: the mean of a quadratic under others is not known",
            remedy="gradient=taut.gradients.StickingTheLanding()",
        )
    if problem.dim > _MOST_LATENTS:
        raise TautError(
            "bad-combination",
            site="gradient",
            found=f"QuadraticControl for {problem.dim} latents",
            expected=f"at most {_MOST_LATENTS}: every step takes a Hessian",
            remedy="noise=taut.gradients.Orthogonal()",
        )
