"""Fixed tables that models of every framework compute with, in numpy."""

import numpy as np


def draw_sinusoids(count: int, dim: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Give fixed position embeddings, sines and cosines by turns, `(count, dim)` (Vaswani et al. 2017, section 3.5)."""
    rates = 10000.0 ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
    angles = np.arange(count, dtype=np.float64)[:, None] * rates  # (count, dim / 2)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(count, -1).astype(np.float32)


def draw_bicubic(old: int, new: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Give how much each of `old` places counts for each of `new` that are spread over the same length, `(new, old)`.

    Cubic convolution (Keys 1981, equation 4) with a = -0.75, places at the centres of pixels, the edges repeated: what
    `torch.nn.functional.interpolate(mode="bicubic")` computes with, along one axis.
    """
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    places = np.floor(centres)[:, None] + np.arange(-1, 3)  # (new, 4), some of them outside
    x = np.abs(centres[:, None] - places)
    a = -0.75
    near, far = ((a + 2) * x - (a + 3)) * x**2 + 1, ((x - 5) * x + 8) * a * x - 4 * a
    table = np.zeros((new, old))
    np.add.at(table, (np.arange(new)[:, None], places.clip(0, old - 1).astype(int)), np.where(x <= 1, near, far))
    return table.astype(np.float32)
