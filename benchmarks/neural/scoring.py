"""What a classifier's draws say of labelled images: error, log-likelihood and calibration, with standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from taut import nn

BINS = 15  # of confidence
RESAMPLES = 400  # of the rows, for the error of the calibration error


def scores(logits: Any, labels: np.ndarray) -> dict[str, float]:
    r"""Figures of the predictive distribution $p_i = \frac1S \sum_s p(y \mid x_i, w_s)$ and their errors over rows.

    Args:
        logits: of draws of the network, ``float[draws, n, classes]``; one draw for a point.
        labels: ``int[n]``.

    Returns:
        ``error`` in percent, ``log_likelihood`` in nats per image, ``brier``, ``ece``, each with ``..._se``; and
        ``mutual_information``, in nats, what draws disagree about.
    """
    labels = np.asarray(labels, int)
    found = nn.uncertainty(logits)
    whole = nn.calibration(found.mean, labels, bins=BINS)
    n, own = len(labels), found.mean[np.arange(len(labels)), labels]
    brier = np.sum((found.mean - np.eye(found.mean.shape[1])[labels]) ** 2, axis=1)
    with np.errstate(divide="ignore"):
        log_own = np.log(own)
    return {
        "error": 100.0 * whole.error,
        "error_se": 100.0 * float(np.sqrt(whole.error * (1.0 - whole.error) / n)),
        "log_likelihood": whole.log_likelihood,
        "log_likelihood_se": _se(log_own),
        "brier": whole.brier,
        "brier_se": _se(brier),
        "ece": whole.ece,
        "ece_se": _bootstrap(found.mean, labels),
        "mutual_information": float(found.mutual_information.mean()),
    }


def paired(first: list[int], second: list[int], rows: int) -> tuple[float, float]:
    """The difference of two errors in percent on the same rows, and its standard error.

    Args:
        first, second: rows that were misjudged, as `wrong` lists them.
        rows: how many were judged.
    """
    gained, lost = len(set(first) - set(second)), len(set(second) - set(first))
    difference = (gained - lost) / rows
    variance = (gained + lost) / rows - difference**2
    return 100.0 * difference, 100.0 * float(np.sqrt(variance / rows))


def wrong(logits: Any, labels: np.ndarray) -> list[int]:
    """Rows whose most probable label is another."""
    return np.flatnonzero(nn.uncertainty(logits).mean.argmax(axis=1) != labels).tolist()


def _se(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _bootstrap(probs: np.ndarray, labels: np.ndarray) -> float:
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(labels), (RESAMPLES, len(labels)))
    return float(np.std([nn.calibration(probs[p], labels[p], bins=BINS).ece for p in picks], ddof=1))
