"""What is checked of Blueprint in Keras: the conformance kit on every class, and files that come from torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import maquette
from maquette.testing import Case, cases, one_fresh_process
from maquette.workshop.templates.encoder import CARD


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    """The kit's checks in a fresh process share one."""
    with one_fresh_process():
        yield


@pytest.mark.parametrize("case", cases([CARD], framework="tf"), ids=str)
def test_models_keep_what_they_promise(case: Case) -> None:
    case.check(skip={"frameworks": "asked of torch's classes, in the other file"})


@pytest.mark.parametrize("case", cases([CARD]), ids=str)
def test_a_save_of_torch_gives_the_same_numbers(case: Case, tmp_path: Path) -> None:
    """And is saved again to the last bit."""
    model = case.model_class(case.config()).eval()
    model.save_pretrained(tmp_path / "torch")
    sibling = getattr(maquette, f"TF{case.auto_class}").from_pretrained(tmp_path / "torch")
    inputs = model.dummy_inputs
    expected, found = model(**inputs), sibling(**{name: x.numpy() for name, x in inputs.items()})
    np.testing.assert_allclose(np.asarray(found[0]), expected[0].detach().numpy(), atol=1e-5)
    sibling.save_pretrained(tmp_path / "again")
    one, other = (tmp_path / place / "model.safetensors" for place in ("torch", "again"))
    assert one.read_bytes() == other.read_bytes()
