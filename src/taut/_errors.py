"""Coded errors: every refusal names the site, what was found, what was expected, and the line that mends it."""

from __future__ import annotations

CODES: dict[str, str] = {
    # model structure
    "duplicate-site": "Two sites share one name.",
    "no-latents": "The model has nothing to infer.",
    "no-observations": "Nothing ties the latents to data.",
    "no-key": "A site must be drawn, but no random key is in scope.",
    "plate-size": "A plate's size is not a whole number known before compilation.",
    "plate-reuse": "One plate is opened with two sizes or dimensions.",
    "plate-shape": "A site's batch shape does not fit the plates it stands in.",
    "unowned-dimension": "A batch dimension belongs to no plate.",
    "unused-param": "A parameter never reaches the objective.",
    "argument-range": "An argument of a distribution may leave its range.",
    "discrete-latent": "A discrete latent can neither be summed out nor moved by gradients.",
    "no-transform": "A support has no map from the real line.",
    "improper-sample": "An improper distribution cannot be sampled.",
    "control-flow": "Python or NumPy is given a value that exists only during the fit.",
    "side-effect": "The model keeps a value, or a state, from one run for the next.",
    "site-inside": "A statement of the model stands inside of a JAX transformation.",
    "param-init": "A parameter's initial value violates its constraint.",
    "bad-argument": "An argument of a primitive or a handler is not what it takes.",
    "site-missing": "A named site does not exist.",
    # data
    "data-missing": "The model needs an argument that the data do not have.",
    "data-unknown": "The data hold a name that the model does not take.",
    "data-type": "A data entry cannot become an array.",
    "data-nonfinite": "Data hold NaN or infinite numbers.",
    "data-shape": "An observed value and its distribution have different shapes.",
    "data-support": "An observed value lies outside the support of its distribution.",
    "data-iterator": "An iterator gives its values once; a compiled program would see the first ones for ever.",
    "probs-rounded": "A probability is rounded to 0 or 1 before its logarithm is taken.",
    "soft-targets": "A distribution of zeros and ones is given values in between.",
    "unused-argument": "An argument has no effect on the likelihood.",
    "unrolled": "A loop in Python was unrolled into a program that compiles for long.",
    "batch-total": "The data changed between steps, and no plate says how many rows there are in all.",
    "impossible-start": "No starting point has a finite density.",
    # guides, objectives, algorithms
    "guide-observed": "The guide samples an observed site.",
    "guide-missing": "A latent of the model is missing from the guide.",
    "guide-unknown": "The guide samples a site that the model does not have.",
    "guide-shape": "Guide and model disagree on a site's shape.",
    "guide-support": "The guide may propose values outside the model's support.",
    "guide-deterministic": "A latent of the model is deterministic in the guide.",
    "guide-fixed": "A latent's distribution in the guide depends on no parameter.",
    "guide-factor": "A factor stands in the guide.",
    "guide-auxiliary": "An auxiliary draw of the guide is not accounted for.",
    "guide-map": "A map in the guide cannot be inverted.",
    "delta-map": "The density of a map in the guide is not accounted for.",
    "kl-weights": "The weights of a KL term do not sum to one.",
    "bad-combination": "These two objects cannot be used together.",
    "flat-direction": "The posterior does not fall off in some direction.",
    "no-maximum": "The fit is no maximum of its objective.",
    "nonfinite": "The objective or its gradient stopped being finite.",
    # results and files
    "no-model": "This needs the model, and a loaded fit does not carry it.",
    "too-many-draws": "More draws were asked for than the fit holds.",
    "model-missing": "A file holds no model of that name.",
    "model-broken": "The code of the model raised an error.",
    "file-missing": "A file does not exist.",
    "file-format": "A file is not of a known format.",
    "file-access": "A file cannot be read or written.",
    "schema": "A saved fit has an unknown schema.",
    "missing-extra": "An optional package is not installed.",
}


class _Coded(Exception):
    """What errors and warnings share: a code, and a sentence made of parts that programs can read."""

    def __init__(
        self,
        code: str,
        *,
        found: str,
        expected: str,
        remedy: str,
        site: str | None = None,
        source: str | None = None,
    ):
        self.code = code
        self.site = site
        self.source = source
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(_sentence(self))


class TautError(_Coded):
    """A refusal with a stable code and a remedy.

    Args:
        code: a slug listed in `CODES`; stable across versions, safe to match on.
        site: name of the site or argument concerned, if there is one.
        source: ``"file.py:line"`` of the user's call, if known.
        found: what was found.
        expected: what was expected instead.
        remedy: the line of code, or the action, that mends it.

    Example:
        >>> raise TautError("no-latents", found="2 observed sites, no latent", expected="a latent",
        ...                 remedy='mu = taut.sample("mu", dist.Normal(0, 1))')
        Traceback (most recent call last):
        ...
        taut._errors.TautError: [no-latents] The model has nothing to infer.
          found:    2 observed sites, no latent
          expected: a latent
          remedy:   mu = taut.sample("mu", dist.Normal(0, 1))
    """


class TautWarning(_Coded, UserWarning):
    """What is allowed and most likely a mistake; its parts are those of `TautError`."""


def _sentence(error: _Coded) -> str:
    where = f" site {error.site!r}" if error.site is not None else ""
    where += f" ({error.source})" if error.source is not None else ""
    title = CODES[error.code]
    return (
        f"[{error.code}]{where}{':' if where else ''} {title}\n"
        f"  found:    {error.found}\n"
        f"  expected: {error.expected}\n"
        f"  remedy:   {error.remedy}"
    )
