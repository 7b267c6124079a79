"""Every Flax class of every card keeps what the conformance kit asks."""

import sys

import pytest

from maquette.testing import Case, cases, one_fresh_process

CASES = cases(framework="flax")


@pytest.fixture(scope="module", autouse=True)
def _one_process():
    with one_fresh_process():
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_class_conforms(case: Case) -> None:
    report = case.check(skip={"frameworks": "the tests of parity compare every class"})
    assert {"forward", "names", "reload", "gradients", "compile", "fresh_process"} <= set(report.passed)
    assert set(report.not_applicable) <= {"padding", "ties", "state", "frameworks", "resizing", "statistics", "travel"}


def test_no_other_framework_here() -> None:
    assert CASES
    assert not {"torch", "tensorflow", "keras"} & set(sys.modules)
