"""The verdict: from plain facts about a fit to one of a few levels, each failing check a sentence with its figure."""

from __future__ import annotations

from dataclasses import dataclass, field

from taut.diagnostics._moments import Comparison
from taut.diagnostics._verification import Verification
from taut.diagnostics._weights import Weighing

TRUSTED = "trusted"
CORRECTED = "trusted after correction"
NOT_TRUSTED = "not trusted"
UNVERIFIED = "unverified"  # no importance weights could be had, or the user asked for no tests


@dataclass(frozen=True)
class Limits:
    """Every threshold of the verdict, written once.

    Chosen on 64 pairs of target and q with known moments (eight schools, funnels, log-gammas, Student's t, bananas,
    mixtures, logistic regressions), 60 weighings each. q was called trusted 915 times, and a mean or log sd of it was
    off by more than .15 in none; "trusted after correction" came out 260 times, and was off by more than .15 in none.
    k-hat with the limits on KL, spread and ESS alone let 103 such errors through in 980: `narrow` gives them away.

    Attributes:
        kl: KL(q || p) in nats, two standard errors added, below which q itself may be trusted.
        kl_reweighted: the same for reweighting.
        spread: range of the batches' log evidence in nats below which q itself may be trusted.
        spread_reweighted: the same for reweighting.
        shift: largest difference of means, in sds, that counts as agreement; also the largest error of a weighted mean.
        shift_upper: the same with two standard errors added.
        log_sd: largest |log sd ratio| that counts as agreement.
        log_sd_upper: the same with two standard errors added.
        gap: largest excess of the fitted over the fresh ELBO in nats, before two standard errors are allowed.
        even: ESS / n above which a k-hat of 1 or more is only a tail of nearly equal weights.
        elbo_khat: largest index of the tail of -log w...
        elbo_se: ...where the ELBO's standard error, in nats, is above this: a heavy tail of tiny numbers does no harm.
        narrow: largest log factor by which reweighting may widen a scalar and still be believed.
        unstable: largest range over batches of the log sd ratio.
        ess: effective draws that reweighting needs.
        starts: starts that must reach the best mode.
        sure: KL(q || p) in nats, two standard errors added, that bounds every mean and sd by itself: a mean that is off
            by d sds costs d^2 / 2. Moved draws then only have to agree within three standard errors.
        islands: largest range of the islands' means in a verification, in sds.
        funnel: number of scalars whose scale one scalar may set.
        evidence: largest difference of two estimates of log Z in nats.
        evidence_se: largest standard error of log Z in nats.
    """

    kl: float = 0.1
    kl_reweighted: float = 2.0
    spread: float = 0.1
    spread_reweighted: float = 0.2
    shift: float = 0.1
    shift_upper: float = 0.12
    log_sd: float = 0.1
    log_sd_upper: float = 0.12
    gap: float = 0.05
    even: float = 0.95
    elbo_khat: float = 0.7
    elbo_se: float = 0.003
    narrow: float = 0.15
    unstable: float = 0.2
    ess: float = 400.0
    starts: int = 2
    sure: float = 0.005
    islands: float = 0.15
    funnel: int = 3
    evidence: float = 0.3
    evidence_se: float = 0.1
    orders: float = 0.25


@dataclass(frozen=True)
class Modes:
    """What the starts found.

    Attributes:
        found: distinct modes of comparable mass, those merged into q counted as one.
        reached: starts that ended in the best one.
        starts: number of starts.
    """

    found: int
    reached: int
    starts: int


@dataclass(frozen=True)
class Orders:
    """How draws are spread over the orders of components that may change places without the density changing.

    Attributes:
        name: the latent that shows it.
        components: which of its components.
        number: how many orders they have; each has one share of the posterior.
        held: orders with at least a tenth of that share.
        off: half the sum of the differences between the shares of draws and those of the posterior.
    """

    name: str
    components: tuple[int, ...]
    number: int
    held: int
    off: float


@dataclass(frozen=True)
class Evidence:
    """The facts that `judge` reads. Only plain values: no arrays of draws, no model, no guide.

    Attributes:
        status: "converged", "plateaued", "budget", "diverged", "nonfinite" or "interrupted".
        weighing: `weigh` of fresh draws, or None if the fit has no weights.
        fit_minus_fresh: (gap, standard error) of the fitted objective minus the fresh-draw ELBO, in nats; None if the
            fit uses fresh draws at every step.
        moments: `compare` of q's draws with their weights, or None.
        modes: what the starts found, or None for a run with a single path.
        flat: names of scalars that neither data nor prior restrain.
        notes: sentences passed through to the reader.
        verification: what SMC from q to the posterior says, or None if none was run.
        skipped: whether the user asked for no verification.
        orders: of components that may change places, or None where there are none.
    """

    status: str
    weighing: Weighing | None = None
    fit_minus_fresh: tuple[float, float] | None = None
    moments: Comparison | None = None
    modes: Modes | None = None
    flat: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    verification: Verification | None = None
    skipped: bool = False
    orders: Orders | None = None


@dataclass(frozen=True)
class Check:
    """One test of a verdict.

    Attributes:
        name: short stable name, such as `"kl"`.
        passed: whether it holds.
        text: one sentence with the figure, the limit and what it means.
        gates: "both" levels, "trusted" only, "reweighted" only, or only the "evidence".
    """

    name: str
    passed: bool
    text: str
    gates: str = "both"


@dataclass(frozen=True)
class Verdict:
    """Whether to believe a fit; made by `judge`.

    Attributes:
        level: "trusted", "trusted after correction", "not trusted", or "unverified" (no weights to test with).
        headline: one line that starts with the level.
        checks: every check that was made, in the order of importance.
        advice: one sentence to act on.
        evidence_trusted: whether the log evidence may be quoted.
        notes: sentences passed through.
    """

    level: str
    headline: str
    checks: tuple[Check, ...]
    advice: str
    evidence_trusted: bool
    notes: tuple[str, ...] = field(default=())

    @property
    def evidence_reasons(self) -> tuple[str, ...]:
        """Why the log evidence of a posterior that is trusted may not be quoted; empty if it may."""
        return tuple(c.text for c in self.checks if c.gates == "evidence" and not c.passed)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences of the failing checks that kept the verdict from the next level up."""
        keep = {NOT_TRUSTED: ("both", "reweighted"), CORRECTED: ("trusted",)}.get(self.level, ())
        failing = [c for c in self.checks if not c.passed and c.gates != "evidence"]
        return tuple(c.text for c in failing if c.gates in keep) or tuple(c.text for c in failing)
