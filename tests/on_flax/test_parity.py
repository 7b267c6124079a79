"""Every Flax class against its torch sibling: outputs on the same folder, and folders both ways."""

import sys
from pathlib import Path

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
from maquette.testing import cases

CASES = cases(framework="flax")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_torch_folder_gives_the_same_numbers(case, from_torch: Path) -> None:
    place = from_torch / torch_name(case)
    model = getattr(maquette, case.auto_class).from_pretrained(place)
    assert type(model) is case.model_class
    variants = sorted(path.name.partition(".")[0] for path in place.glob("*.in.npz"))
    assert {"plain", "kept"} <= set(variants)
    for variant in set(variants) - {"labels"}:  # a Flax model gives no losses
        found = without_loss(flatten(model(**read(place / f"{variant}.in.npz"))))
        compare(found, without_loss(read(place / f"{variant}.out.npz")), tolerance=tolerance_of(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_torch_folder_is_saved_again_bit_for_bit(case, from_torch: Path, tmp_path: Path) -> None:
    check_saved_again(case, from_torch / torch_name(case), tmp_path)


def test_torch_loads_what_is_made_here(tmp_path: Path) -> None:
    check_torch_loads("flax", tmp_path)


def test_no_other_framework_here() -> None:
    """Run last in this file: after all of the above, this process has imported neither torch nor TensorFlow."""
    assert not {"torch", "tensorflow", "keras"} & set(sys.modules)


def test_folders_copied_out_unedited_are_custom_models(tmp_path: Path, run_fresh) -> None:
    check_copied_folders("flax", tmp_path, run_fresh)
