"""Tokenizers, image processors and feature extractors give JAX' arrays, and take them back."""

from pathlib import Path

from frameworks import check_preprocessing


def test_preprocessing_for_jax(tmp_path: Path) -> None:
    assert check_preprocessing("jax", tmp_path) == {"jaxlib"}
