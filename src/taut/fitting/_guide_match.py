"""Whether a guide was fitted to a model like this one, and how they differ."""

from __future__ import annotations

from taut._errors import TautError
from taut.problem import Latent, Problem


def differences(saved: Problem, problem: Problem) -> list[str]:
    """What a model lacks, has beyond, or writes otherwise than the one that a guide was fitted to."""
    found = []
    for name, latent in saved.latents.items():
        if name not in problem.latents:
            found.append(f"site {name!r} of the guide is missing in the model")
        else:
            found += _of_site(latent, problem.latents[name])
    found += [
        f"site {name!r} of the model is missing in the guide" for name in problem.latents if name not in saved.latents
    ]
    for name, param in saved.params.items():
        here = problem.params.get(name)
        if here is None:
            found.append(f"param {name!r} is missing in the model")
        elif here.shape != param.shape or here.support != param.support:
            found.append(f"param {name!r}: {here.support} {here.shape} against {param.support} {param.shape}")
    found += [f"param {name!r} of the model is new" for name in problem.params if name not in saved.params]
    order = [n for n in saved.latents if n in problem.latents]
    if not found and order != list(problem.latents):
        found.append(f"the latents come in the order {', '.join(problem.latents)}, not {', '.join(order)}")
    return found


def check_same_model(saved: Problem, problem: Problem) -> None:
    """Refuse a guide of another model.

    Raises:
        TautError: ``bad-combination`` with every difference.
    """
    found = differences(saved, problem)
    if found:
        raise TautError(
            "bad-combination",
            site="guide",
            found="; ".join(found),
            expected="a model with the latents that the guide was fitted to: their names, shapes and supports",
            remedy="taut.fit(model, data) fits this model from its own start",
        )


def _of_site(saved: Latent, here: Latent) -> list[str]:
    what = f"site {here.name!r}"
    where = f" ({here.source})" if here.source else ""
    if here.shape != saved.shape:
        return [f"{what}{where}: shape {here.shape} in the model against {saved.shape} in the guide"]
    if here.support != saved.support:
        return [f"{what}{where}: support {here.support} in the model against {saved.support} in the guide"]
    if (here.transform, here.coordinate_shape, here.hierarchical) != (
        saved.transform,
        saved.coordinate_shape,
        saved.hierarchical,
    ):
        kinds = [f"{s.transform}{' of a hierarchy' * s.hierarchical} {s.coordinate_shape}" for s in (here, saved)]
        return [f"{what}{where}: coordinates by {kinds[0]} in the model against {kinds[1]} in the guide"]
    return []
