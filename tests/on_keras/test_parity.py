"""Every Keras class against its torch sibling: outputs and losses on the same folder, and folders both ways."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from frameworks import check_copied_folders, compare, flatten, read, run_torch, tolerance_of, torch_name

import maquette
from maquette.testing import cases

CASES = cases(framework="tf")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_torch_folder_gives_the_same_numbers(case, from_torch: Path) -> None:
    place = from_torch / torch_name(case)
    model = getattr(maquette, case.auto_class).from_pretrained(place)
    assert type(model) is case.model_class
    variants = sorted(path.name.partition(".")[0] for path in place.glob("*.in.npz"))
    assert {"plain", "kept"} <= set(variants)
    for variant in variants:
        found = flatten(model(**read(place / f"{variant}.in.npz")))
        compare(found, read(place / f"{variant}.out.npz"), tolerance=tolerance_of(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_torch_folder_is_saved_again_bit_for_bit(case, from_torch: Path, tmp_path: Path) -> None:
    place = from_torch / torch_name(case)
    case.model_class.from_pretrained(place).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (place / "model.safetensors").read_bytes()
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (place, tmp_path))
    assert new.pop("architectures") == [case.model_class.__name__]
    assert old.pop("architectures") == [torch_name(case)]
    assert new == old


def test_torch_loads_what_keras_made(tmp_path: Path) -> None:
    """Fresh Keras models, saved, give the same numbers in torch."""
    for case in CASES:
        place = tmp_path / case.model_class.__name__
        model = case.model_class.from_config(case.config())
        model.save_pretrained(place)
        np.savez(place / "plain.in.npz", **model.dummy_inputs)
        np.savez(place / "plain.out.npz", **flatten(model(**model.dummy_inputs)))
        (place / "auto_class.txt").write_text(case.auto_class.removeprefix("TF"), encoding="utf-8")
    run_torch("load", tmp_path)
    for case in CASES:
        place = tmp_path / case.model_class.__name__
        compare(read(place / "torch.out.npz"), read(place / "plain.out.npz"), tolerance=tolerance_of(case))


def test_no_torch_here() -> None:
    """Run last in this file: after all of the above, this process has not imported torch."""
    assert "torch" not in sys.modules


def test_folders_copied_out_unedited_are_custom_models(tmp_path: Path, run_fresh) -> None:
    check_copied_folders("tf", tmp_path, run_fresh)
