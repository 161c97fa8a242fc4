r"""Normal draws that cancel each other's errors: orthogonal blocks with $\chi_D$ radii, and their mirror images.

Each row is exactly $\mathcal N(0, I_D)$, so importance weights stay unbiased; together the rows have mean 0 and nearly
the right second moments, so that averages of smooth functions converge faster than with independent draws.
"""

from __future__ import annotations

import numpy as np

# Above this dimension one orthogonal block costs more than it saves.
_LARGEST_BLOCK = 256


def antithetic_normal(rows: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Standard normal rows, in mirrored pairs of orthogonal blocks.

    Args:
        rows: how many.
        dim: their length $D$.
        rng: host generator.

    Returns:
        ``float64[rows, dim]``.
    """
    half = (rows + 1) // 2
    noise = rng.standard_normal((-(-half // dim) * dim, dim))
    if 1 < dim <= _LARGEST_BLOCK:
        blocks = noise.reshape(-1, dim, dim)
        directions, triangle = np.linalg.qr(blocks)
        # The signs of the triangle's diagonal make the directions uniform over rotations.
        signs = np.where(np.diagonal(triangle, axis1=1, axis2=2) < 0, -1.0, 1.0)
        radii = np.sqrt(rng.chisquare(dim, (*blocks.shape[:2], 1)))
        noise = ((directions * signs[:, None, :]).transpose(0, 2, 1) * radii).reshape(-1, dim)
    noise = noise[:half]
    return np.concatenate([noise, -noise])[:rows]
