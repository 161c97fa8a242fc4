"""The rules that turn facts into a verdict. k-hat can refuse and never grants."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from taut.diagnostics._judge_verified import verification_checks, weights_with_verification
from taut.diagnostics._moments import Comparison
from taut.diagnostics._pareto import khat_limit
from taut.diagnostics._verdict import CORRECTED, NOT_TRUSTED, TRUSTED, UNVERIFIED, Check, Evidence, Limits, Verdict
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
    "support": "Restrict the guide to the model's support, or look for a latent whose density is not finite.",
    "modes": "Break the symmetry in the model, run more starts, or use a guide that is a mixture.",
    "orders": "Order the components: mu = jnp.stack([low, low + gap]), gap = taut.sample('gap', dist.HalfNormal(5.0)).",
    "fresh": "Use more fixed draws: the fit has learnt the ones it has.",
    "elbo": "Use a guide with lighter tails: the ELBO of this one has no reliable mean.",
    "reweighting": "Use a richer guide, restate hierarchies non-centred, or sample with MCMC.",
    "trusted": "Read the posterior as it stands.",
    "weighted": "Read the posterior as it stands: its draws are weighted ones, q itself is not good enough.",
    "corrected": "Read the posterior as it stands: its draws are corrected ones, q itself is not good enough.",
    "smc": "State the scale of each group as its prior's scale (dist.Normal(m, s)), or sample with MCMC.",
    "skipped": "Use verify=True before relying on it.",
    "unverified": "Use a guide whose density can be evaluated, so that its draws can be weighed.",
}


def judge(evidence: Evidence, limits: Limits | None = None) -> Verdict:
    r"""Judge a fit.

    *trusted*: q itself is the posterior to within the limits. *trusted after correction*: q is off, and draws that SMC
    moved, or weights repair, are not. Neither can see a mode that no start found. With no weights at all the level is
    *unverified*.

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
    if common and (evidence.skipped or not weighed):
        level = UNVERIFIED
    elif common and not any(check.gates == "trusted" for check in failing):
        level = TRUSTED
    elif common and not any(check.gates == "reweighted" for check in failing):
        level = CORRECTED
    else:
        level = NOT_TRUSTED
    of_evidence = _evidence_check(evidence, limits) if level in (TRUSTED, CORRECTED) else None
    return Verdict(
        level=level,
        headline=_headline(level, evidence, failing),
        checks=checks if of_evidence is None else (*checks, of_evidence),
        advice=_advice(level, evidence, failing),
        evidence_trusted=of_evidence is not None and of_evidence.passed,
        notes=evidence.notes,
    )


def _checks(evidence: Evidence, limits: Limits) -> Iterator[Check]:
    status, modes = evidence.status, evidence.modes
    if status == "converged":
        yield Check("converged", True, "The run converged.")
    elif status == "plateaued" and evidence.weighing is not None:
        # The objective cannot tell more through its noise; fresh draws and their weights can, and judge q themselves.
        yield Check("converged", True, "The run stopped where its gains were lost in its noise; the weights judge q.")
    else:
        how = _STATUS.get(status, f"ended with status {status!r}")
        yield Check("converged", False, f"The run {how}, so q may be far from its best.")
    if evidence.flat:
        names = ", ".join(evidence.flat)
        yield Check("flat", False, f"Neither prior nor data restrain {names}: the density does not fall along it.")
    if modes is not None:
        found = f"The starts found {modes.found} distinct mode{'s' if modes.found != 1 else ''} of comparable mass"
        yield _check("modes", modes.found == 1, found, "q covers one, and no weight can show the others", "both")
        found = f"{modes.reached} of {modes.starts} starts reached the best mode (needed: {limits.starts})"
        yield _check("starts", modes.reached >= limits.starts, found, "a better one may have been missed", "both")
    if evidence.orders is not None:
        o = evidence.orders
        which = ", ".join(map(str, o.components))
        found = (
            f"Components {which} of {o.name} may change places without the density changing; of their {o.number} "
            f"orders, equally probable, the draws hold {o.held}"
        )
        hint = "what is said of one component is that of some orders only"
        yield _check("orders", o.held == o.number and o.off < limits.orders, found, hint, "both")
    if evidence.fit_minus_fresh is not None:
        gap, se = evidence.fit_minus_fresh
        allowed = limits.gap + 2.0 * se
        found = f"The fitted ELBO exceeds the ELBO on fresh draws by {gap:.3f} nats (limit {allowed:.3f})"
        ok = gap < allowed and se < limits.kl
        yield _check("fresh", ok, found, "the fit has learnt its own draws", "trusted")
    if evidence.verification is not None:
        yield from verification_checks(evidence.verification, evidence.weighing, limits)
        if evidence.weighing is not None:
            yield from weights_with_verification(evidence.weighing, evidence.moments, limits)
        return
    if evidence.weighing is not None:
        yield from _weight_checks(evidence.weighing, limits)
    if evidence.weighing is not None and evidence.moments is None:
        yield Check("moments", False, "No moments were compared, so a shift of them would go unseen.")
    if evidence.moments is not None:
        yield from _moment_checks(evidence.moments, limits)


def _weight_checks(w: Weighing, limits: Limits) -> Iterator[Check]:
    if w.zeros:
        bad = f" ({w.nans:,} of them NaN or +inf)" if w.nans else ""
        found = f"{w.zeros:,} of {w.n:,} draws of q have density zero or not finite{bad}"
        yield Check("support", False, f"{found}: q reaches where the posterior does not.")
        return
    if w.elbo_khat >= limits.elbo_khat and w.elbo_se > limits.elbo_se:
        found = f"The tail of -log w has index {w.elbo_khat:.2f} (limit {limits.elbo_khat:g})"
        yield Check("elbo", False, f"{found}: q's tails are too heavy for its ELBO to have a reliable mean.")
    kl = f"KL(q || p) is about {w.kl:.2f} nats, at most {w.kl + 2.0 * w.kl_se:.2f} with its error"
    upper = w.kl + 2.0 * w.kl_se
    yield _check("kl", upper < limits.kl, f"{kl} (limit {limits.kl:g})", "q itself is not the posterior", "trusted")
    yield _spread(w, "evidence", limits.spread, "trusted")
    tail = f"The largest k-hat of {w.batches} batches is {w.khat:.2f}"
    share = w.ess / w.n
    yield _check(
        "tail",
        w.khat < 1.0 or share > limits.even,
        f"{tail} and the weights keep {share:.0%} of the draws (limit: below 1, or above {limits.even:.0%})",
        "part of the posterior may lie beyond q's draws, where no weight can show it",
        "trusted",
    )
    limit = khat_limit(w.n // w.batches)
    found = f"{tail} (limit {limit:.2f})"
    yield _check("khat", w.khat < limit, found, "a few draws would carry the reweighted answer", "reweighted")
    found = f"{kl} (limit {limits.kl_reweighted:g} for reweighting)"
    yield _check("kl-reweighted", upper < limits.kl_reweighted, found, "q is too far for weights to mend", "reweighted")
    yield _spread(w, "evidence-reweighted", limits.spread_reweighted, "reweighted")
    found = f"The weighted draws are worth {w.ess:,.0f} independent ones (needed: {limits.ess:,.0f})"
    yield _check("ess", w.ess >= limits.ess, found, "their means are too noisy", "reweighted")


def _spread(w: Weighing, name: str, limit: float, gates: str) -> Check:
    if w.batches < 2:
        return Check(name, False, "log Z comes from one batch of draws: its spread is unknown.", gates)
    found = f"log Z differs by {w.evidence_spread:.3f} nats between {w.batches} batches of draws (limit {limit:g})"
    return _check(name, w.evidence_spread < limit, found, "the weights have not shown all of the posterior", gates)


def _moment_checks(c: Comparison, limits: Limits) -> Iterator[Check]:
    i, j = c.worst_mean, c.worst_sd
    shift, se = abs(float(c.mean_shift[i])), float(c.mean_shift_se[i])
    found = f"Reweighting moves the mean of {c.names[i]} by {shift:.2f} +- {se:.2f} sd (limit {limits.shift:g})"
    ok = shift < limits.shift and shift + 2.0 * se < limits.shift_upper
    yield _check("means", ok, found, "q is centred in the wrong place, or too few draws tell", "trusted")
    ratio, se = float(c.log_sd_ratio[j]), float(c.log_sd_ratio_se[j])
    found = f"q's sd of {c.names[j]} is {_factor(ratio)} times the reweighted one, +- {se:.0%}"
    ok = abs(ratio) < limits.log_sd and abs(ratio) + 2.0 * se < limits.log_sd_upper
    side = "narrow" if ratio < 0 else "wide"
    yield _check("sds", ok, f"{found} (limit a factor {_factor(limits.log_sd)})", f"q is too {side} there", "trusted")
    # Weights can shrink a q that is too wide. What a narrow q never drew they cannot weigh, so where they widen it they
    # show part of a larger error.
    k = int(np.argmin(c.log_sd_ratio))
    narrow = float(c.log_sd_ratio[k])
    found = f"Reweighting widens {c.names[k]} by a factor {_factor(-narrow)} (limit {_factor(limits.narrow)})"
    hint = "q is too narrow there and has too few draws in the tails for weights to finish the repair"
    yield _check("narrow", narrow > -limits.narrow, found, hint, "reweighted")
    k = int(np.argmax(c.log_sd_spread))
    unstable = float(c.log_sd_spread[k])
    found = f"The sd ratio of {c.names[k]} differs by {unstable:.0%} between batches (limit {limits.unstable:.0%})"
    yield _check("stable-sds", unstable < limits.unstable, found, "a few draws decide it", "reweighted")
    k = int(np.argmax(c.mean_se))
    noise = float(c.mean_se[k])
    found = f"The reweighted mean of {c.names[k]} is known to {noise:.2f} sd (limit {limits.shift:g})"
    yield _check("noise", noise < limits.shift, found, "more draws or a closer q are needed", "reweighted")


def _check(name: str, passed: bool, found: str, meaning: str, gates: str) -> Check:
    return Check(name, bool(passed), f"{found}." if passed else f"{found}: {meaning}.", gates)


def _factor(log_ratio: float) -> str:
    return f"{math.exp(log_ratio):.2f}" if log_ratio < 700.0 else "inf"


def _evidence_check(evidence: Evidence, limits: Limits) -> Check:
    """Whether the log evidence of a posterior that is trusted may be quoted."""
    v, w = evidence.verification, evidence.weighing
    if v is None:
        error = f", +- {w.log_evidence_se:.3f} nats" if w is not None else ""
        return Check("log-evidence", True, f"log Z rests on the weights of q's draws alone{error}.", "evidence")
    # Weights of a narrow q find too little; only what they find beyond the particles speaks against these.
    more = w.log_evidence - v.log_evidence if w is not None else 0.0
    if not more < limits.evidence:
        found = f"Weights of q's draws find {more:.2f} nats more than particles do (limit {limits.evidence:g})"
        advice = "give q more modes, or SMC more particles, before quoting it"
        return Check("log-evidence", False, f"{found}: {advice}.", "evidence")
    found = f"log Z is known to +- {v.log_evidence_se:.3f} nats (limit {limits.evidence_se:g})"
    if not v.log_evidence_se < limits.evidence_se:
        return Check("log-evidence", False, f"{found}: run again with more particles before quoting it.", "evidence")
    return Check("log-evidence", True, f"{found}.", "evidence")


def _headline(level: str, evidence: Evidence, failing: list[Check]) -> str:
    w, v = evidence.weighing, evidence.verification
    if level == TRUSTED and w is not None:
        return f"{TRUSTED}: the posterior below is q itself; KL(q||p) about {max(w.kl, 0.0):.2g} nats"
    if level == CORRECTED and v is not None:
        off = f"q is off by about {w.kl:.2g} nats" if w is not None and math.isfinite(w.kl) else "q is off"
        return f"{CORRECTED}: {off}; the draws below are particles that SMC carried from q to the posterior"
    if level == CORRECTED and w is not None:
        return (
            f"{CORRECTED}: q is off by about {w.kl:.2g} nats and its weighted draws are not; "
            f"k-hat {w.khat:.2f}, {w.ess:,.0f} effective draws"
        )
    if level == UNVERIFIED and evidence.skipped:
        return f"{UNVERIFIED}: no verification was asked for"
    if level == UNVERIFIED:
        return f"{UNVERIFIED}: q's draws could not be weighed against the model, so nothing was tested"
    order = {"both": 0, "reweighted": 1, "trusted": 2}
    first = min(failing, key=lambda check: (check.name not in ("flat", "orders"), order[check.gates]))
    return f"{NOT_TRUSTED}: {first.text[0].lower() + first.text[1:]}"


def _advice(level: str, evidence: Evidence, failing: list[Check]) -> str:
    status = evidence.status
    if level == TRUSTED:
        return str(_ADVICE["trusted"])
    if level == CORRECTED:
        return str(_ADVICE["weighted" if evidence.verification is None else "corrected"])
    if level == UNVERIFIED:
        return str(_ADVICE["skipped" if evidence.skipped else "unverified"])
    names = {check.name for check in failing}
    if "flat" in names:
        return str(_ADVICE["flat"])
    if "converged" in names:
        table = _ADVICE["converged"]
        return table.get(status, "Run again to convergence.") if isinstance(table, dict) else table
    for name in ("support", "orders", "modes", "starts", "elbo", "fresh"):
        if name in names:
            return str(_ADVICE["modes" if name == "starts" else name])
    return str(_ADVICE["smc" if names & {"smc", "islands", "funnel"} else "reweighting"])
