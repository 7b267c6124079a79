"""Arrays of an `.npz` file, read at once: numpy's own reader stays open until it is collected, in whatever test."""

from pathlib import Path
from typing import Any

import numpy as np


def read_arrays(path: Path) -> dict[str, Any]:
    """Give all arrays of a file by name."""
    with np.load(path) as stored:
        return dict(stored)
