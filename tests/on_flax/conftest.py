"""Tests of Flax models, in a process without torch and TensorFlow."""

import compiled  # noqa: F401
from frameworks import from_torch  # noqa: F401
