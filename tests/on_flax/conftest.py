"""Tests of Flax models, in a process without torch and TensorFlow."""

import pytest
from frameworks import from_torch, give_cases  # noqa: F401

FRAMEWORK = "flax"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    give_cases(metafunc, FRAMEWORK)


@pytest.fixture
def framework() -> str:
    return FRAMEWORK
