"""``python -m benchmarks.kinds.run [--only NAME ...] [--draws N]``: fit each kind, then run NUTS on the same program.

The reference is NumPyro's NUTS, four chains, starting at the fit's own draws; its Monte Carlo errors and R-hat are used
where the two differ. The exit status is 1 if a trusted mean is off by more than 0.1 sd or a trusted sd by more than
10 %, by more than three errors of the reference.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from arviz_stats.base import array_stats
from numpyro.infer import MCMC, NUTS

import taut
from benchmarks.kinds.models import Kind, kinds
from benchmarks.peers.as_numpyro import as_numpyro
from taut._files import atomic_write
from taut.diagnostics import CORRECTED, TRUSTED

ROOT = Path(__file__).resolve().parents[2]
CHAINS = 4
MEAN, LOG_SD = 0.1, np.log(1.1)
HEADER = (
    f"{'kind':22} {'D':>4} {'verdict':24} {'KL':>6} {'mean':>6} {'log sd':>6} {'SMC':>9} {'cold':>6} {'warm':>6}  R-hat"
)


def reference(kind: Kind, draws: int, warmup: int = 1000) -> dict[str, np.ndarray]:
    """NUTS on the same program: site -> ``(chains, draws, *shape)``."""
    with jax.enable_x64(True):
        kernel = NUTS(as_numpyro(kind.model, kind.data), target_accept_prob=0.95)
        settings = dict(num_warmup=warmup, num_samples=draws, num_chains=CHAINS)
        chains = MCMC(kernel, **settings, chain_method="vectorized", progress_bar=False)
        chains.run(jax.random.key(0))
        return {name: np.asarray(x) for name, x in chains.get_samples(group_by_chain=True).items()}


def compare(fit: taut.Fit, told: dict[str, np.ndarray]) -> dict[str, Any]:
    """Largest errors of latents and deterministic sites, and the scalars that are wrong for certain."""
    drawn = fit.draws(fit.held)
    mean_error, sd_error, wrong, worst_rhat = 0.0, 0.0, [], 1.0
    for name, chains in told.items():
        x = chains.reshape(*chains.shape[:2], -1)
        q = np.asarray(drawn[name]).reshape(len(drawn[name]), -1)
        for i in range(x.shape[2]):
            one = x[:, :, i]
            sd = one.std()
            if not sd > 0:
                continue
            mean_se = float(array_stats.mcse(one, method="mean")) / sd
            sd_se = float(array_stats.mcse(one, method="sd")) / sd
            worst_rhat = max(worst_rhat, float(array_stats.rhat(one)))
            shift, ratio = (q[:, i].mean() - one.mean()) / sd, np.log(q[:, i].std() / sd)
            mean_error, sd_error = max(mean_error, abs(shift)), max(sd_error, abs(ratio))
            if abs(shift) > MEAN + 3 * mean_se or abs(ratio) > LOG_SD + 3 * sd_se:
                wrong.append(f"{name}[{i}] {shift:+.2f} sd, x{np.exp(ratio):.2f}")
    return {"mean": mean_error, "log_sd": sd_error, "wrong": wrong, "rhat": worst_rhat}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kinds.run", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="parts of names")
    parser.add_argument("--draws", type=int, default=2000, help="of each of four chains")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "kinds.json")
    options = parser.parse_args(arguments)
    rows = []
    print(HEADER)
    for name, kind in kinds().items():
        if options.only and not any(part in name for part in options.only):
            continue
        begun = time.perf_counter()
        fit = taut.fit(kind.model, kind.data)
        cold = time.perf_counter() - begun
        begun = time.perf_counter()
        fit = taut.fit(kind.model, kind.data)
        warm = time.perf_counter() - begun
        found = compare(fit, reference(kind, options.draws))
        claims = fit.verdict.level in (TRUSTED, CORRECTED)
        false = claims and bool(found["wrong"]) and found["rhat"] < 1.02
        smc = int(fit.numbers.get("gradients of SMC", (0, None, ""))[0])
        dim = fit.problem.dim if fit.problem is not None else 0
        print(
            f"{name:22} {dim:4} {fit.verdict.level:24} {fit.kl:6.3f} {found['mean']:6.3f} {found['log_sd']:6.3f} "
            f"{smc:9,} {cold:6.1f} {warm:6.1f}  {found['rhat']:.3f}"
            + ("" if claims else f"\n    {fit.verdict.headline}")
            + (f"\n  !!! FALSE TRUST: {', '.join(found['wrong'][:5])}" if false else ""),
            flush=True,
        )
        rows.append(
            dict(name=name, level=fit.verdict.level, kl=fit.kl, smc=smc, cold=cold, warm=warm, false=false, **found)
        )
    claimed = [row for row in rows if row["level"] in (TRUSTED, CORRECTED)]
    print(f"{len(rows)} kinds, {len(claimed)} trusted, {sum(row['false'] for row in rows)} of these wrong")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"written to {atomic_write(options.out, json.dumps(rows, indent=1) + chr(10))}")
    return int(any(row["false"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
