r"""A Gaussian with scales and a few directions: its square root, and the one that a precision asks for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_FALL = 0.01  # least share of the present precision that one step leaves: a spread grows by ten at most
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


def with_directions(shape: Shape, value: np.ndarray, vector: np.ndarray) -> Shape:
    r"""The same scales, with the precision $\lambda_k$ along $V_k$ in units of s and 1 elsewhere."""
    return shape._replace(basis=vector, stretch=_bounded(shape, value, vector) ** -0.5)


def with_diagonal(shape: Shape, value: np.ndarray, vector: np.ndarray, diagonal: np.ndarray) -> Shape:
    r"""The Gaussian whose precision has the wanted diagonal as well as the wanted directions.

    In units of s, with bulk $c$ the mean eigenvalue of what the directions leave,

    $$Q = \mathrm{diag}(\delta) + V\,\mathrm{diag}(\lambda - c)\,V^\top,\qquad
      \delta_j = A_{jj} - \sum_k V_{jk}^2 (\lambda_k - c),\qquad c = \frac{\mathrm{tr}A - \sum_k\lambda_k}{D - r},$$

    so that $Q_{jj} = A_{jj}$; written again as scales $s/\sqrt\delta$ and directions of $\delta^{-1/2}Q\delta^{-1/2}$.

    Args:
        shape: gives s and the mean.
        value: $\lambda$ ``(r,)``, eigenvalues of $A$, the precision in units of s.
        vector: $V$ ``(D, r)``.
        diagonal: $A_{jj}$ ``(D,)``.

    Returns:
        `Shape`.
    """
    d, r = vector.shape
    value = _bounded(shape, value, vector)
    bulk = (diagonal.sum() - value.sum()) / (d - r) if r < d else 1.0
    bulk = max(bulk, _SMALLEST)  # a sum of estimates
    delta = diagonal - vector**2 @ (value - bulk)
    # Where the directions explain all of a latent's precision, noise may leave nothing or less.
    delta = np.clip(delta, _SMALLEST * np.maximum(diagonal, _SMALLEST), None)
    root = np.sqrt(delta)
    basis, upper = np.linalg.qr(vector / root[:, None])
    excess, turn = np.linalg.eigh((upper * (value - bulk)) @ upper.T)
    moved = Shape(shape.mean, shape.scale / root, basis @ turn, np.ones(r))
    # What was asked for along V is positive; in other combinations an estimate may not be.
    least = np.maximum(1e-2 * value.min(initial=1.0), 1e-8)
    return moved._replace(stretch=np.maximum(1.0 + excess, least) ** -0.5)


def _bounded(shape: Shape, value: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Eigenvalues no further below what q has along their directions than one step may go."""
    present = np.einsum("jk,jk->k", vector, shape.rotate(vector.T, -2.0).T)
    return np.maximum(value, _FALL * present)
