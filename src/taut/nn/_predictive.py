"""What the draws of a classifier say: its mean, how unsure it is and why, and whether its probabilities are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from taut._arguments import whole_number
from taut._errors import TautError


@dataclass(frozen=True)
class Uncertainty:
    r"""Predictive probabilities of a classifier, and the entropy of a label split into its two causes, in nats.

    $$\underbrace{H\big[\mathbb E_w\, p(y \mid x, w)\big]}_\text{total} =
      \underbrace{\mathbb E_w H\big[p(y \mid x, w)\big]}_\text{the data's} +
      \underbrace{I(y; w)}_\text{the weights'}$$

    Attributes:
        mean: predictive probabilities, ``float[n, classes]``.
        entropy: of the predictive distribution, ``float[n]``.
        expected_entropy: mean entropy of single draws, ``float[n]``: noise that more data will not take away.
        mutual_information: the difference, ``float[n]``: what a label would say about the weights (BALD).
    """

    mean: np.ndarray
    entropy: np.ndarray
    expected_entropy: np.ndarray
    mutual_information: np.ndarray


def uncertainty(logits: Any = None, *, probs: Any = None) -> Uncertainty:
    r"""The predictive distribution of a classifier, and why it is unsure.

    Args:
        logits: of single draws of the weights, ``float[draws, n, classes]``; ``float[draws, n]`` for two classes.
        probs: probabilities in place of logits, of the same shapes.

    Returns:
        An `Uncertainty`. For two classes ``mean`` has two columns, the second of them the probability of 1.

    Raises:
        TautError: ``bad-argument`` for other shapes, or probabilities that do not sum to one.

    Source: Houlsby, Huszár, Ghahramani, Lengyel (2011), Bayesian active learning for classification and preference
    learning; Depeweg et al. (2018) for the split.

    Example:
        >>> found = taut.nn.uncertainty(probs=[[[1.0, 0.0]], [[0.0, 1.0]]])   # two draws that are sure, and disagree
        >>> round(float(found.entropy[0]), 4), round(float(found.mutual_information[0]), 4)
        (0.6931, 0.6931)
    """
    if (logits is None) == (probs is None):
        raise _wrong("uncertainty(logits) or uncertainty(probs=...), and not both", "one of the two")
    log_p = _log_probabilities(logits) if probs is None else _logs(probs)
    draws = len(log_p)
    log_mean = logsumexp(log_p, axis=0) - np.log(draws)
    mean = np.exp(log_mean)
    entropy = -np.sum(np.where(mean > 0, mean * log_mean, 0.0), axis=-1) + 0.0
    p = np.exp(log_p)
    each = -np.sum(np.where(p > 0, p * np.where(p > 0, log_p, 0.0), 0.0), axis=-1)
    expected = np.mean(each, axis=0) + 0.0
    # The information is not negative; rounding may be.
    return Uncertainty(mean, entropy, expected, np.maximum(entropy - expected, 0.0))


def frequencies(labels: Any, classes: int) -> np.ndarray:
    """Predictive probabilities from draws of the label itself, such as ``fit.predict(data)["y"]``.

    Draws of labels say what the mean is, not how far single networks disagree: for that `uncertainty` needs logits.

    Args:
        labels: whole numbers from 0 on, ``int[draws, n]``.
        classes: how many there are.

    Returns:
        ``float[n, classes]``.

    Example:
        >>> taut.nn.frequencies([[0, 1], [1, 1]], classes=2)
        array([[0.5, 0.5],
               [0. , 1. ]])
    """
    values = np.asarray(labels)
    if values.ndim != 2 or not np.all(np.isin(values, np.arange(classes))):
        raise _wrong(f"labels of shape {values.shape}", f"whole numbers from 0 to {classes - 1}, of shape (draws, n)")
    return np.stack([np.mean(values == c, axis=0) for c in range(classes)], axis=-1)


def log_predictive(log_likelihoods: Any) -> np.ndarray:
    r"""Log predictive density of each row, $\log \frac1S \sum_s p(y_i \mid w_s)$, in nats.

    The mean is inside of the logarithm: the mean of log likelihoods is what no posterior predicts.

    Args:
        log_likelihoods: $\log p(y_i \mid w_s)$, ``float[draws, n]``.

    Returns:
        ``float[n]``.

    Example:
        >>> np.round(taut.nn.log_predictive(np.log([[0.2], [0.6]])), 4)
        array([-0.9163])
    """
    values = np.asarray(log_likelihoods, float)
    return logsumexp(values, axis=0) - np.log(len(values))


@dataclass(frozen=True)
class Calibration:
    """How often a classifier is right, bin by bin of how sure it says it is.

    Attributes:
        edges: of the bins of confidence, ``float[bins + 1]``.
        count: labels in each, ``int[bins]``.
        confidence: mean confidence in each, ``float[bins]``, NaN where there is none.
        accuracy: share of right labels in each, ``float[bins]``, NaN where there is none.
        ece: expected calibration error, the mean distance of the two, weighed by ``count``.
        mce: the largest distance.
        brier: mean squared distance of probabilities from the labels.
        log_likelihood: mean log probability of the labels, in nats.
        error: share of labels that are not the most probable.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float
    mce: float
    brier: float
    log_likelihood: float
    error: float


def calibration(probs: Any, labels: Any, *, bins: int = 15) -> Calibration:
    r"""Whether the probabilities of a classifier are what they say: the reliability diagram and its summaries.

    $$\mathrm{ECE} = \sum_b \frac{n_b}{n} \,|\mathrm{acc}_b - \mathrm{conf}_b|$$

    Args:
        probs: predictive probabilities, ``float[n, classes]``; ``float[n]`` is the probability of 1.
        labels: ``int[n]`` from 0 on.
        bins: of equal width between 0 and 1.

    Raises:
        TautError: ``bad-argument`` for shapes that do not meet, labels that are no classes, or rows that do not sum
            to one.

    Source: Naeini, Cooper, Hauskrecht (2015), Obtaining well calibrated probabilities using Bayesian binning; Guo,
    Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks.

    Example:
        >>> found = taut.nn.calibration([[0.9, 0.1], [0.9, 0.1]], [0, 1])
        >>> round(found.ece, 3), found.error
        (0.4, 0.5)
    """
    p = np.exp(_logs(np.asarray(probs, float)[None]))[0]
    y = np.asarray(labels)
    if p.ndim != 2 or y.shape != (len(p),) or len(p) == 0:
        raise _wrong(f"probabilities of shape {np.shape(probs)} and labels of shape {y.shape}", "(n, classes) and (n,)")
    if not np.all(np.isin(y, np.arange(p.shape[1]))):
        raise _wrong(f"labels from {y.min()} to {y.max()}", f"whole numbers from 0 to {p.shape[1] - 1}")
    whole_number("bins", bins, "taut.nn.calibration(probs, labels, bins=15)")
    y = y.astype(int)
    sure, right = p.max(axis=1), p.argmax(axis=1) == y
    edges = np.linspace(0.0, 1.0, bins + 1)
    # A confidence on an edge belongs to the bin below it, as in the paper; 0 to the first.
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        confidence = np.bincount(place, sure, bins) / count
        accuracy = np.bincount(place, right, bins) / count
        own = np.log(p[np.arange(len(y)), y])
    gap = np.abs(accuracy - confidence)[count > 0]
    hit = np.eye(p.shape[1])[y]
    return Calibration(
        edges=edges,
        count=count,
        confidence=confidence,
        accuracy=accuracy,
        ece=float(np.sum(gap * count[count > 0]) / len(y)),
        mce=float(gap.max()),
        brier=float(np.mean(np.sum((p - hit) ** 2, axis=1))),
        log_likelihood=float(np.mean(own)),
        error=float(np.mean(~right)),
    )


def _log_probabilities(logits: Any) -> np.ndarray:
    values = np.asarray(logits, float)
    if values.ndim == 2:
        values = np.stack([np.zeros_like(values), values], axis=-1)
    if values.ndim != 3 or values.shape[-1] < 2 or not np.all(np.isfinite(values)):
        raise _wrong(f"logits of shape {np.shape(logits)}", "finite numbers of shape (draws, n, classes) or (draws, n)")
    return values - logsumexp(values, axis=-1, keepdims=True)


def _logs(probs: Any) -> np.ndarray:
    values = np.asarray(probs, float)
    if values.ndim == 2:
        values = np.stack([1.0 - values, values], axis=-1)
    if values.ndim != 3 or not np.all((values >= 0) & (values <= 1)):
        raise _wrong(f"probabilities of shape {np.shape(probs)}", "numbers from 0 to 1 of shape (draws, n, classes)")
    total = values.sum(axis=-1)
    if not np.allclose(total, 1.0, atol=1e-4):
        raise _wrong(f"probabilities that sum to between {total.min():.4g} and {total.max():.4g}", "rows that sum to 1")
    with np.errstate(divide="ignore"):
        return np.log(values / total[..., None])


def _wrong(found: str, expected: str) -> TautError:
    remedy = "taut.nn.uncertainty(logits).mean has probabilities of the right shape"
    return TautError("bad-argument", found=found, expected=expected, remedy=remedy)
