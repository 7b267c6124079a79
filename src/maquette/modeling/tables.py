"""Fixed tables that models of every framework compute with, in numpy."""

import numpy as np


def draw_sinusoids(count: int, dim: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Give fixed position embeddings, sines and cosines by turns, `(count, dim)` (Vaswani et al. 2017, section 3.5)."""
    rates = 10000.0 ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
    angles = np.arange(count, dtype=np.float64)[:, None] * rates  # (count, dim / 2)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(count, -1).astype(np.float32)
