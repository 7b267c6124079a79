"""Tokenizers, image processors and feature extractors give TensorFlow's tensors, and take them back."""

from pathlib import Path

import pytest
from frameworks import check_preprocessing
from keras import backend


@pytest.mark.skipif(backend.backend() != "tensorflow", reason="Keras runs on JAX here, whose tensors on_flax tests")
def test_preprocessing_for_tensorflow(tmp_path: Path) -> None:
    assert check_preprocessing("tf", tmp_path) == {"tensorflow"}
