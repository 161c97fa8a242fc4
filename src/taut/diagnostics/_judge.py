"""The rules that turn facts into a verdict. k-hat can refuse and never grants."""

from __future__ import annotations

import math
from collections.abc import Iterator

from taut.diagnostics._moments import Comparison
from taut.diagnostics._pareto import khat_limit
from taut.diagnostics._verdict import NOT_TRUSTED, TRUSTED, UNVERIFIED, USABLE, Check, Evidence, Limits, Verdict
from taut.diagnostics._weights import Weighing

_STATUS = {
    "plateaued": "stopped on a plateau that no convergence test confirmed",
    "budget": "ended on its budget, not on a test",
    "diverged": "diverged",
    "nonfinite": "met a non-finite objective or gradient",
    "interrupted": "was interrupted",
}

_ADVICE = {
    "converged": {
        "budget": "Raise the budget, or resume from where the run stopped.",
        "plateaued": "Run longer with a smaller step, or use an algorithm that ends on a test.",
        "interrupted": "Resume the run.",
        "diverged": "Lower the learning rate, or start from another point.",
        "nonfinite": "Look at the site named in the error: its density left the finite numbers there.",
    },
    "flat": "Give the named scalars a proper prior, or data that speak of them.",
    "proper": "Give every latent a proper prior.",
    "support": "Restrict the guide to the model's support, or look for a latent whose density is not finite.",
    "modes": "Break the symmetry in the model, run more starts, or use a guide that is a mixture.",
    "fresh": "Use more fixed draws: the fit has learnt the ones it has.",
    "elbo": "Use a guide with lighter tails: the ELBO of this one has no reliable mean.",
    "reweighting": "Use a richer guide, restate hierarchies non-centred, or sample with MCMC.",
    "trusted": "Read the posterior as it stands.",
    "usable": "Use weighted draws for every summary; for the posterior itself use a richer guide.",
    "unverified": "Use a guide whose density can be evaluated, so that its draws can be weighed.",
}


def judge(evidence: Evidence, limits: Limits | None = None) -> Verdict:
    r"""Judge a fit.

    *trusted*: q itself is the posterior to within the limits. *usable when reweighted*: q is off, and its weighted draws
    are not. Neither can see a mode that no start found. With no weights at all the level is *unverified*.

    Args:
        evidence: what is known of the fit.
        limits: thresholds; the defaults are those that the project measured.

    Returns:
        `Verdict`.

    Source: rules measured on hierarchical and regression posteriors; k-hat: Vehtari et al., JMLR 25 (2024).

    Example:
        >>> judge(Evidence(status="budget")).level
        'not trusted'
    """
    limits = limits or Limits()
    checks = tuple(_checks(evidence, limits))
    failing = [check for check in checks if not check.passed]
    common = not any(check.gates == "both" for check in failing)
    weighed = evidence.weighing is not None
    if common and not weighed:
        level = UNVERIFIED
    elif common and not any(check.gates == "trusted" for check in failing):
        level = TRUSTED
    elif common and not any(check.gates == "reweighted" for check in failing):
        level = USABLE
    else:
        level = NOT_TRUSTED
    return Verdict(
        level=level,
        headline=_headline(level, evidence.weighing, failing),
        checks=checks,
        advice=_advice(level, evidence.status, failing),
        evidence_trusted=level in (TRUSTED, USABLE),
        notes=evidence.notes,
    )


def _checks(evidence: Evidence, limits: Limits) -> Iterator[Check]:
    status = evidence.status
    how = _STATUS.get(status, f"ended with status {status!r}")
    yield Check("converged", status == "converged",
                "The run converged." if status == "converged" else f"The run {how}, so q may be far from its best.")  # fmt: skip
    if evidence.flat:
        names = ", ".join(evidence.flat)
        yield Check("flat", False, f"Neither prior nor data restrain {names}: the posterior is flat along it.")
    if evidence.improper:
        yield Check("proper", False, "The posterior has no finite integral, so there is nothing that q could match.")
    if evidence.modes is not None:
        yield from _mode_checks(evidence, limits)
    if evidence.fit_minus_fresh is not None:
        gap, se = evidence.fit_minus_fresh
        allowed = limits.gap + 2.0 * se
        ok = gap <= allowed and se < limits.kl
        yield Check("fresh", ok, f"The fitted ELBO exceeds the ELBO on fresh draws by {gap:.3f} nats (limit {allowed:.3f})"
                    + ("." if ok else ": the fit has learnt its own draws."), gates="trusted")  # fmt: skip
    if evidence.weighing is not None:
        yield from _weight_checks(evidence.weighing, limits)
    if evidence.moments is not None:
        yield from _moment_checks(evidence.moments, limits)


def _mode_checks(evidence: Evidence, limits: Limits) -> Iterator[Check]:
    modes = evidence.modes
    if modes is None:
        return
    ok = modes.found == 1
    yield Check("modes", ok, "The starts found one mode." if ok else
                f"The starts found {modes.found} distinct modes of comparable mass and q covers one of them.")  # fmt: skip
    ok = modes.reached >= limits.starts
    yield Check("starts", ok, f"{modes.reached} of {modes.starts} starts reached the best mode (needed: {limits.starts})"
                + ("." if ok else ": a better one may have been missed."))  # fmt: skip


def _weight_checks(w: Weighing, limits: Limits) -> Iterator[Check]:
    if w.zeros:
        bad = f" ({w.nans:,} of them NaN or +inf)" if w.nans else ""
        yield Check("support", False, f"{w.zeros:,} of {w.n:,} draws of q have density zero or not finite{bad}: "
                    "q reaches where the posterior does not.")  # fmt: skip
        return
    if w.elbo_khat >= 0.7:
        yield Check("elbo", False, f"The tail of -log w has index {w.elbo_khat:.2f} (limit 0.7): the ELBO's average "
                    "does not settle, q's tails are too heavy.")  # fmt: skip
    upper = w.kl + 2.0 * w.kl_se
    yield Check("kl", upper < limits.kl, f"KL(q || p) is about {w.kl:.2f} nats, at most {upper:.2f} with its error "
                f"(limit {limits.kl:g})" + ("." if upper < limits.kl else ": q itself is not the posterior."),
                gates="trusted")  # fmt: skip
    ok = w.evidence_spread < limits.spread
    yield Check("evidence", ok, _spread(w, limits.spread, ok), gates="trusted")
    limit = khat_limit(w.n // w.batches)
    yield Check("khat", w.khat < limit, f"The largest k-hat of {w.batches} batches is {w.khat:.2f} (limit {limit:.2f})"
                + ("." if w.khat < limit else ": a few draws would carry the reweighted answer."), gates="reweighted")  # fmt: skip
    ok = upper < limits.kl_reweighted
    yield Check("kl-reweighted", ok, f"KL(q || p) is at most {upper:.2f} nats (limit {limits.kl_reweighted:g} for "
                "reweighting)" + ("." if ok else ": q is too far away for weights to mend."), gates="reweighted")  # fmt: skip
    ok = w.evidence_spread < limits.spread_reweighted
    yield Check("evidence-reweighted", ok, _spread(w, limits.spread_reweighted, ok), gates="reweighted")
    ok = w.ess >= limits.ess
    yield Check("ess", ok, f"The weighted draws are worth {w.ess:,.0f} independent ones (needed: {limits.ess:,.0f})"
                + ("." if ok else ": their means would be too noisy."), gates="reweighted")  # fmt: skip


def _spread(w: Weighing, limit: float, ok: bool) -> str:
    tail = "." if ok else ": the weights have not shown all of the posterior."
    return f"log Z differs by {w.evidence_spread:.3f} nats between {w.batches} batches of draws (limit {limit:g}){tail}"


def _moment_checks(c: Comparison, limits: Limits) -> Iterator[Check]:
    i = c.worst_mean
    shift, allowed = abs(float(c.mean_shift[i])), limits.shift + 2.0 * float(c.mean_shift_se[i])
    ok = shift < allowed
    yield Check("means", ok, f"Reweighting moves the mean of {c.names[i]} by {shift:.2f} sd (limit {allowed:.2f})"
                + ("." if ok else ": q is centred in the wrong place."), gates="trusted")  # fmt: skip
    i = c.worst_sd
    ratio, allowed = float(c.log_sd_ratio[i]), limits.log_sd + 2.0 * float(c.log_sd_ratio_se[i])
    ok = abs(ratio) < allowed
    yield Check("sds", ok, f"q's sd of {c.names[i]} is {math.exp(min(ratio, 700.0)):.2f} times the reweighted one "
                f"(limit a factor {math.exp(min(allowed, 700.0)):.2f})"
                + ("." if ok else f": q is too {'narrow' if ratio < 0 else 'wide'} there."), gates="trusted")  # fmt: skip


def _headline(level: str, w: Weighing | None, failing: list[Check]) -> str:
    if level == TRUSTED and w is not None:
        return f"{TRUSTED}: the posterior below is q itself; KL(q||p) about {max(w.kl, 0.0):.2g} nats"
    if level == USABLE and w is not None:
        return (
            f"{USABLE}: q is off by about {w.kl:.2g} nats and its weighted draws are not; "
            f"k-hat {w.khat:.2f}, {w.ess:,.0f} effective draws"
        )
    if level == UNVERIFIED:
        return f"{UNVERIFIED}: q's draws could not be weighed against the model, so nothing was tested"
    order = {"both": 0, "reweighted": 1, "trusted": 2}
    first = min(failing, key=lambda check: order[check.gates])
    return f"{NOT_TRUSTED}: {first.text[0].lower() + first.text[1:]}"


def _advice(level: str, status: str, failing: list[Check]) -> str:
    if level == TRUSTED:
        return str(_ADVICE["trusted"])
    if level == USABLE:
        return str(_ADVICE["usable"])
    if level == UNVERIFIED:
        return str(_ADVICE["unverified"])
    names = {check.name for check in failing}
    if "converged" in names:
        table = _ADVICE["converged"]
        return table.get(status, "Run again to convergence.") if isinstance(table, dict) else table
    for name in ("flat", "proper", "support", "modes", "starts", "elbo", "fresh"):
        if name in names:
            return str(_ADVICE["modes" if name == "starts" else name])
    return str(_ADVICE["reweighting"])
