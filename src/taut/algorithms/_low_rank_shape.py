r"""A Gaussian with scales and a few directions: its square root, and the one that a precision asks for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_FALL = 0.01  # least share of the present precision that one step leaves: a spread grows by ten at most
_TURNS = 30
_SMALLEST = 0.05  # least share of a latent's precision that is its own


class Shape(NamedTuple):
    r"""$\mathcal N(m, CC^\top)$ with $C = \mathrm{diag}(s)\,R$, $R = I + V\,\mathrm{diag}(e - 1)\,V^\top$.

    mean ``(D,)``; scale $s$ ``(D,)``; basis $V$ ``(D, r)``, orthonormal columns; stretch $e$ ``(r,)``, positive.
    """

    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    stretch: np.ndarray

    def rotate(self, u: np.ndarray, power: float = 1.0) -> np.ndarray:
        r"""$R^{p}u$ for each row; R is symmetric."""
        if not len(self.stretch):
            return u
        return u + ((u @ self.basis) * (self.stretch**power - 1.0)) @ self.basis.T

    def out(self, u: np.ndarray) -> np.ndarray:
        """``m + C u`` for each row."""
        return self.mean + self.rotate(u) * self.scale

    def back(self, g: np.ndarray) -> np.ndarray:
        """``C' g`` for each row: gradients in the frame."""
        return self.rotate(g * self.scale)

    def white(self, z: np.ndarray) -> np.ndarray:
        """``C^-1 (z - m)`` for each row."""
        return self.rotate((z - self.mean) / self.scale, -1.0)

    def log_det(self) -> float:
        """``log |C|``."""
        return float(np.log(self.scale).sum() + np.log(self.stretch).sum())

    def inner_precision(self) -> np.ndarray:
        """Diagonal of ``R^-2``, ``(D,)``: the precision of each latent given the others, in units of ``1 / s^2``."""
        return 1.0 + self.basis**2 @ (self.stretch**-2.0 - 1.0)


def round_shape(mean: np.ndarray, scale: np.ndarray) -> Shape:
    """The mean-field Gaussian."""
    return Shape(mean, scale, np.empty((len(mean), 0)), np.empty(0))


def with_directions(shape: Shape, scale: np.ndarray, value: np.ndarray, vector: np.ndarray) -> Shape:
    r"""The Gaussian at the same mean with precision $\lambda_k$ along $V_k$ in units of the scales, and 1 elsewhere."""
    return Shape(shape.mean, scale, vector, _bounded(shape, scale, value, vector) ** -0.5)


def with_diagonal(shape: Shape, scale: np.ndarray, value: np.ndarray, vector: np.ndarray) -> Shape:
    r"""The Gaussian whose precision has a diagonal of 1 as well as the wanted directions.

    In units of the scales, $Q = \mathrm{diag}(\delta) + V K V^\top$ with

    $$V^\top Q V = \mathrm{diag}\,\lambda,\qquad Q_{jj} = 1:\qquad
      K = \mathrm{diag}\,\lambda - V^\top\mathrm{diag}(\delta)V,\quad
      \delta = 1 - \mathrm{diag}(V K V^\top),$$

    which is solved by turns; written again as scales $s/\sqrt\delta$ and directions of
    $\delta^{-1/2}Q\delta^{-1/2}$.

    Args:
        shape: the present Gaussian: its mean, and what bounds the step.
        scale: $s$ ``(D,)``, in whose units the precision has the diagonal 1.
        value: $\lambda$ ``(r,)``, its eigenvalues far from 1.
        vector: $V$ ``(D, r)``.

    Returns:
        `Shape`.
    """
    value = _bounded(shape, scale, value, vector)
    delta, inner = np.ones(len(scale)), np.diag(value)
    for _ in range(_TURNS):
        inner = np.diag(value) - (vector.T * delta) @ vector
        before = delta
        # Where the directions explain all of a latent's precision, noise may leave nothing or less.
        delta = np.maximum(1.0 - np.einsum("jk,jk->j", vector @ inner, vector), _SMALLEST)
        if np.max(np.abs(delta - before) / delta) < 1e-3:
            break
    root = np.sqrt(delta)
    basis, upper = np.linalg.qr(vector / root[:, None])
    excess, turn = np.linalg.eigh(upper @ inner @ upper.T)
    # What was asked for along V is positive; in other combinations an estimate may not be.
    floor = np.maximum(1e-2 * value.min(initial=1.0), 1e-8)
    return Shape(shape.mean, scale / root, basis @ turn, np.maximum(1.0 + excess, floor) ** -0.5)


def _bounded(shape: Shape, scale: np.ndarray, value: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Eigenvalues no further below what q has along their directions than one step may go."""
    present = shape.rotate(vector.T * (scale / shape.scale), -1.0)
    return np.maximum(value, _FALL * np.einsum("kj,kj->k", present, present))
