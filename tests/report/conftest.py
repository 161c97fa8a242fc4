"""Contents that stand for fits: small, and awkward where it matters."""

from __future__ import annotations

import numpy as np
import pytest

from taut.report import Content, History, SiteDraws


@pytest.fixture
def hierarchy() -> Content:
    """Scalars, an eight-vector, a 90-vector, a small and a large deterministic site, a param, weights of no drama."""
    r, draws = np.random.default_rng(0), 2000
    mu, log_tau = r.normal(4.4, 3.3, draws), r.normal(1.0, 1.0, draws)
    theta = mu[:, None] + np.exp(log_tau)[:, None] * r.normal(size=(draws, 8))
    steps = np.arange(1, 61) * 20
    return Content(
        title="schools",
        level="trusted",
        headline="The guide matches the posterior.",
        reasons=("k-hat 0.21 is below 0.5",),
        sites={
            "mu": SiteDraws("latent", mu, "real"),
            "tau": SiteDraws("latent", np.exp(log_tau), "positive"),
            "theta": SiteDraws("latent", theta, "real"),
            "z": SiteDraws("latent", r.normal(size=(draws, 90))),
            "pooled": SiteDraws("deterministic", theta.mean(axis=1)),
            "y_hat": SiteDraws("deterministic", r.normal(size=(draws, 20, 3))),
            "phi": SiteDraws("param", np.array([0.73125])),
        },
        log_weights=-0.1 * (log_tau - 0.8) ** 2 - 40.0,
        covers="reweighted",
        numbers={
            "log evidence": (-31.3193, 0.0042, ""),
            "k-hat": (0.2134, None, ""),
            "gradients": (2144, None, ""),
            "time": (1.31, None, "s"),
        },
        history=History(steps, -31.5 - 60 * np.exp(-steps / 80), np.full(60, 0.06)),
        facts={"guide": "full rank", "precision": "float64"},
    )


@pytest.fixture
def awkward() -> Content:
    """Names that are markup, wide or multi-line, scales from 1e-8 to 1e9, NaN and infinite weights, no history."""
    r = np.random.default_rng(1)
    count = 600
    log_weights = r.normal(size=count)
    log_weights[:4], log_weights[4:30] = np.nan, -np.inf
    x = r.normal(size=count)
    return Content(
        title="<script>alert(1)</script> & co",
        level="not trusted",
        headline='The "guide" misses <b>mass</b>.',
        reasons=("k-hat 0.93 exceeds 0.7", "one <i>reason</i> more"),
        advice="taut.fit(model, data, guide='auto')",
        status="budget",
        sites={
            "<b>": SiteDraws("latent", 3e-8 + 1e-8 * x),
            "東京": SiteDraws("latent", 1.2e9 + 3e7 * x),
            "cost$ in $": SiteDraws("latent", 1.2e6 + 3e4 * r.normal(size=count)),
            "two\nlines": SiteDraws("latent", r.normal(size=count)),
            "constant": SiteDraws("latent", np.full(count, 2.5)),
            "broken": SiteDraws("latent", np.full(count, np.nan)),
            'on"click=': SiteDraws("latent", r.normal(size=(count, 2))),
        },
        log_weights=log_weights,
        covers="reweighted",
        numbers={"log evidence": (float("nan"), float("nan"), ""), "<KL>": (float("inf"), None, "nats")},
        history=History(np.arange(3), np.array([np.nan, -5.0, -4.0]), np.array([np.nan, 0.1, np.nan])),
        facts={"<key>": "<0>"},
    )
