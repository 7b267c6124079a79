"""Tests of Flax models, in a process without torch and TensorFlow."""

from frameworks import from_torch  # noqa: F401
