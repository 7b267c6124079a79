"""Tests of Keras models, in a process without torch; run once for each backend (`KERAS_BACKEND`)."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from frameworks import from_torch, give_cases  # noqa: F401

FRAMEWORK = "tf"


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "any_backend: names, files and refusals, which are Keras' on every backend")
    # TensorFlow's tensors do not know numpy 2's `copy` yet, and Keras copies them when it saves.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out on JAX what no backend computes: the run on TensorFlow, the default, has proven it."""
    if os.environ.get("KERAS_BACKEND") == "jax":
        left = [item for item in items if item.get_closest_marker("any_backend")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    give_cases(metafunc, FRAMEWORK)


@pytest.fixture
def framework() -> str:
    return FRAMEWORK
