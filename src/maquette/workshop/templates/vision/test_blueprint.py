"""What is checked of Blueprint: the conformance kit on every class of its card, and what is its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from maquette import AutoImageProcessor, AutoModelForImageClassification
from maquette.testing import Case, cases, check_config, one_fresh_process, tiny_config
from maquette.workshop.templates.vision import CARD
from maquette.workshop.templates.vision.configuration import BlueprintConfig
from maquette.workshop.templates.vision.image_processing import BlueprintImageProcessor
from maquette.workshop.templates.vision.modeling import BlueprintForImageClassification


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    """The kit's checks in a fresh process share one."""
    with one_fresh_process():
        yield


@pytest.mark.parametrize("case", cases([CARD]), ids=str)
def test_models_keep_what_they_promise(case: Case) -> None:
    case.check()


def test_the_configuration_keeps_what_it_promises() -> None:
    check_config(BlueprintConfig, tiny_config(CARD))


def test_the_package_is_found(tmp_path: Path) -> None:
    """Installed, it is found by the AutoClasses, model and image processor, without any import of it."""
    model = BlueprintForImageClassification(tiny_config(CARD)).eval()
    model.save_pretrained(tmp_path)
    BlueprintImageProcessor(size=16).save_pretrained(tmp_path)
    again, processor = (
        AutoModelForImageClassification.from_pretrained(tmp_path),
        AutoImageProcessor.from_pretrained(tmp_path),
    )
    assert (type(again), type(processor)) == (BlueprintForImageClassification, BlueprintImageProcessor)
    pixels = processor(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8), return_tensors="pt")
    assert pixels["pixel_values"].shape == (1, 3, 16, 16)
    assert torch.equal(again(**pixels).logits, model(**pixels).logits)


def test_every_stage_halves_the_image() -> None:
    config = BlueprintConfig(widths=[8, 16, 24], depths=[1, 2, 1])
    model = CARD.load(CARD.models["AutoModel"])(config).eval()
    assert model(torch.zeros(1, 3, 40, 24)).last_hidden_state.shape == (1, 24, 5, 3)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="of one length"):
        BlueprintConfig(widths=[8, 16], depths=[1])
    with pytest.raises(ValueError, match="multiples of groups"):
        BlueprintConfig(widths=[12], depths=[1])
