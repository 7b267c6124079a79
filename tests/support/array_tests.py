"""Tests of every Keras class and every Flax class; a file imports those it wants, its folder says which framework."""

import sys
from pathlib import Path
from typing import Any

import pytest
from frameworks import (
    check_copied_folders,
    check_saved_again,
    check_torch_loads,
    compare,
    flatten,
    read,
    tolerance_of,
    torch_name,
    without_loss,
)

import maquette
from maquette.testing import Case, one_fresh_process

OTHERS = {"tf": {"torch"}, "flax": {"torch", "tensorflow", "keras"}}
# What the checks of the kit must have looked at, and what they may have found nothing to look at for.
PASSED = {"forward", "names", "reload", "gradients", "compile", "fresh_process"}
MISSING = {"padding", "ties", "state", "frameworks", "resizing", "statistics", "travel"}


def test_no_other_framework_here(framework: str) -> None:
    """Run after others: this process has imported none of the other frameworks."""
    assert not OTHERS[framework] & set(sys.modules)


# Parity ----------------------------------------------------------------------------------------------------------


def test_a_torch_folder_gives_the_same_numbers(case: Case, framework: str, from_torch: Path) -> None:
    place = from_torch / torch_name(case)
    model = getattr(maquette, case.auto_class).from_pretrained(place)
    assert type(model) is case.model_class
    variants = {path.name.partition(".")[0] for path in place.glob("*.in.npz")}
    assert {"plain", "kept"} <= variants
    trains_itself = framework != "flax"  # a Flax model gives no losses
    for variant in sorted(variants if trains_itself else variants - {"labels"}):
        found: Any = flatten(model(**read(place / f"{variant}.in.npz")))
        expected = read(place / f"{variant}.out.npz")
        if not trains_itself:
            found, expected = without_loss(found), without_loss(expected)
        compare(found, expected, tolerance=tolerance_of(case))


def test_a_torch_folder_is_saved_again_bit_for_bit(case: Case, from_torch: Path, tmp_path: Path) -> None:
    check_saved_again(case, from_torch / torch_name(case), tmp_path)


def test_torch_loads_what_is_made_here(framework: str, tmp_path: Path) -> None:
    check_torch_loads(framework, tmp_path)


def test_folders_copied_out_unedited_are_custom_models(framework: str, tmp_path: Path, run_fresh) -> None:
    check_copied_folders(framework, tmp_path, run_fresh)


# Conformance -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_process():
    with one_fresh_process():
        yield


def test_every_class_conforms(case: Case, framework: str, one_process: None) -> None:
    report = case.check(skip={"frameworks": "the tests of parity compare every class"})
    trained = {"tf": {"fit"}, "flax": set()}[framework]
    assert PASSED | trained <= set(report.passed)
    assert set(report.not_applicable) <= MISSING | ({"loss", "fit: metrics"} if trained else set())
