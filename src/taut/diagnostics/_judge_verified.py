"""The checks of a verdict that rests on SMC from q to the posterior."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from taut.diagnostics._moments import Comparison
from taut.diagnostics._verdict import Check, Limits
from taut.diagnostics._verification import ISLANDS, Verification
from taut.diagnostics._weights import Weighing


def weights_with_verification(w: Weighing, c: Comparison | None, limits: Limits) -> Iterator[Check]:
    """What importance weights may still refuse once moved draws have been compared: q itself, never the moved draws."""
    if w.zeros:
        found = f"{w.zeros:,} of {w.n:,} draws of q have density zero or not finite"
        yield Check("support", False, f"{found}: q reaches where the posterior does not.", "trusted")
        return
    if w.elbo_khat >= limits.elbo_khat and w.elbo_se > limits.elbo_se:
        found = f"The tail of -log w has index {w.elbo_khat:.2f} (limit {limits.elbo_khat:g})"
        yield Check("elbo", False, f"{found}: q's tails are too heavy for its ELBO to have a reliable mean.", "trusted")
    found = f"KL(q || p) is about {w.kl:.2f} nats (limit {limits.kl:g})"
    yield _check("kl", w.kl < limits.kl, found, "q itself is not the posterior", "trusted")
    if c is None:
        return
    i = c.worst_mean
    shift, se = abs(float(c.mean_shift[i])), float(c.mean_shift_se[i])
    found = f"Reweighting moves the mean of {c.names[i]} by {shift:.2f} +- {se:.2f} sd (limit {limits.shift:g})"
    yield _check("means", not shift - 2.0 * se > limits.shift, found, "q is centred in the wrong place", "trusted")
    i = c.worst_sd
    ratio, se = float(c.log_sd_ratio[i]), float(c.log_sd_ratio_se[i])
    found = f"q's sd of {c.names[i]} is {_factor(ratio)} times the reweighted one, +- {se:.0%}"
    found = f"{found} (limit a factor {_factor(limits.log_sd)})"
    ok = not abs(ratio) - 2.0 * se > limits.log_sd
    yield _check("sds", ok, found, f"q is too {'narrow' if ratio < 0 else 'wide'} there", "trusted")


def verification_checks(v: Verification, w: Weighing | None, limits: Limits) -> Iterator[Check]:
    """The checks that a verification adds to a verdict."""
    # Where KL bounds every moment the particles must not contradict; elsewhere they must confirm.
    slack = 3.0 if w is not None and w.kl + 2.0 * w.kl_se < limits.sure else -1.0
    steps = f"after {v.gradients:,} gradients"
    found = f"SMC from q to the posterior {'came to rest' if v.converged else 'still drifts'} {steps}"
    yield _check("smc", v.converged, found, "its draws are not settled yet", "both")
    i = int(np.argmax(np.abs(v.mean_shift) - slack * v.mean_shift_se))
    shift, se = float(v.mean_shift[i]), float(v.mean_shift_se[i])
    found = f"SMC moves the mean of {v.names[i]} by {abs(shift):.2f} +- {se:.2f} sd (limit {limits.shift:g})"
    ok = abs(shift) - slack * se < limits.shift
    yield _check("smc-means", ok, found, "q is centred in the wrong place", "trusted")
    i = int(np.argmax(np.abs(v.log_sd_ratio) - slack * v.log_sd_ratio_se))
    ratio, se = float(v.log_sd_ratio[i]), float(v.log_sd_ratio_se[i])
    found = f"q's sd of {v.names[i]} is {_factor(ratio)} times that of SMC, +- {se:.0%}"
    side = "narrow" if ratio < 0 else "wide"
    found = f"{found} (limit a factor {_factor(limits.log_sd)})"
    ok = abs(ratio) - slack * se < limits.log_sd
    yield _check("smc-sds", ok, found, f"q is too {side} there", "trusted")
    found = f"The means of {ISLANDS} islands of SMC differ by up to {v.island_spread:.2f} sd (limit {limits.islands:g})"
    yield _check("islands", v.island_spread < limits.islands, found, "they have not mixed", "reweighted")
    if w is not None and math.isfinite(w.log_evidence):
        more = w.log_evidence - v.log_evidence
        # One heavy draw may say so by chance, or because it met a spike: its noise is no excuse.
        found = f"Weights find {max(more, 0.0):.2f} nats more mass than the particles do (limit {limits.evidence:g})"
        yield _check("mass", more < limits.evidence, found, "part of the posterior holds no particle", "reweighted")
    found = f"One scalar sets the scale of {v.funnel_index} others (limit {limits.funnel})"
    ok = v.funnel_index < limits.funnel
    yield _check("funnel", ok, found, "the neck of such a funnel may not have been entered", "reweighted")


def _check(name: str, passed: bool, found: str, meaning: str, gates: str) -> Check:
    return Check(name, bool(passed), f"{found}." if passed else f"{found}: {meaning}.", gates)


def _factor(log_ratio: float) -> str:
    return f"{math.exp(log_ratio):.2f}" if abs(log_ratio) < 700.0 else "inf"
