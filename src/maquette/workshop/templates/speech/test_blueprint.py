"""What is checked of Blueprint: the conformance kit on every class of its card, and what is its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from maquette import AutoFeatureExtractor, AutoModelForAudioClassification
from maquette.testing import Case, cases, check_config, one_fresh_process, tiny_config
from maquette.workshop.templates.speech import CARD
from maquette.workshop.templates.speech.configuration import BlueprintConfig
from maquette.workshop.templates.speech.feature_extraction import BlueprintFeatureExtractor
from maquette.workshop.templates.speech.modeling import BlueprintForAudioClassification


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
    """Installed, it is found by the AutoClasses, model and feature extractor, without any import of it."""
    model = BlueprintForAudioClassification(tiny_config(CARD)).eval()
    model.save_pretrained(tmp_path)
    BlueprintFeatureExtractor(feature_size=8).save_pretrained(tmp_path)
    again = AutoModelForAudioClassification.from_pretrained(tmp_path)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert (type(again), type(extractor)) == (BlueprintForAudioClassification, BlueprintFeatureExtractor)
    heard = extractor([np.ones(600), np.ones(2000)], padding=True, return_tensors="pt")
    assert heard["input_features"].shape == (2, 14, 8) and heard["attention_mask"].sum(1).tolist() == [3, 14]
    assert torch.equal(again(**heard).logits, model(**heard).logits)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = BlueprintForAudioClassification(tiny_config(CARD)).eval()
    sounds = torch.randn(2, 9, 8)
    mask = torch.tensor([[1] * 5 + [0] * 4, [1] * 9])
    assert torch.allclose(model(sounds[:1, :5]).logits, model(sounds, mask).logits[:1], atol=1e-6)


def test_a_tone_is_loudest_in_its_band() -> None:
    extractor = BlueprintFeatureExtractor()
    tone = np.sin(2 * np.pi * 1062.5 * np.arange(2048) / extractor.sampling_rate)  # in the middle of the ninth of 32
    heard = extractor([tone], return_tensors="np")["input_features"]
    assert (heard[0].argmax(1) == 8).all()


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="has to be odd"):
        BlueprintConfig(kernel=4)
