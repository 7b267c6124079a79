"""What is checked of Blueprint: the conformance kit on every class of its card, and what is its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from maquette import AutoModelForZeroShotImageClassification, AutoProcessor, pipeline
from maquette.testing import Case, cases, check_config, one_fresh_process, tiny_config
from maquette.workshop.templates.two_tower import CARD
from maquette.workshop.templates.two_tower.configuration import BlueprintConfig
from maquette.workshop.templates.two_tower.image_processing import BlueprintImageProcessor
from maquette.workshop.templates.two_tower.modeling import BlueprintModel
from maquette.workshop.templates.two_tower.processing import BlueprintProcessor
from maquette.workshop.templates.two_tower.tokenization import BlueprintTokenizerFast


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
    """Installed, it is found by the AutoClasses and the pipeline, model and processor, without any import of it."""
    texts = ["a red disc", "what you see is a blue ring"]
    tokenizer = BlueprintTokenizerFast.learn(texts, 270)
    config = BlueprintConfig(**{**CARD.tiny, "vocab_size": len(tokenizer)})
    model = BlueprintModel(config).eval()
    model.save_pretrained(tmp_path)
    BlueprintProcessor(BlueprintImageProcessor(size=16), tokenizer).save_pretrained(tmp_path)
    again = AutoModelForZeroShotImageClassification.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert (type(again), type(processor)) == (BlueprintModel, BlueprintProcessor)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    batch = processor(text=texts, images=[image], padding=True, return_tensors="pt")
    logits = again(**batch).logits_per_image
    assert logits.shape == (1, 2)
    torch.testing.assert_close(logits, model(**batch).logits_per_image)
    classify = pipeline("zero-shot-image-classification", model=tmp_path)
    found = classify(image, candidate_labels=texts, hypothesis_template="{}")
    assert {one["label"] for one in found} == set(texts)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = BlueprintModel(tiny_config(CARD)).eval()
    ids, mask = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    alone, padded = model.get_text_features(ids[:1, :3]), model.get_text_features(ids, mask)
    assert torch.allclose(alone.pooler_output, padded.pooler_output[:1], atol=1e-6)


def test_the_loss_is_that_of_pairs() -> None:
    """Guess the image of each text and the text of each image (Radford et al. 2021, figure 3)."""
    torch.manual_seed(0)
    model = BlueprintModel(tiny_config(CARD)).eval()
    output = model(torch.arange(15).view(3, 5), torch.randn(3, 3, 8, 8), return_loss=True)
    expected = sum(-logits.log_softmax(1).diag().mean() / 2 for logits in (output[1], output[2]))
    assert torch.allclose(output.loss, torch.as_tensor(expected), atol=1e-6)
    with pytest.raises(ValueError, match="3 texts and 2 images"):
        model(torch.arange(15).view(3, 5), torch.randn(2, 3, 8, 8), return_loss=True)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of twice text_heads"):
        BlueprintConfig(text_dim=20, text_heads=4)
    with pytest.raises(ValueError, match="multiples of groups"):
        BlueprintConfig(widths=[12])
    with pytest.raises(ValueError, match="names no stage"):
        BlueprintConfig(widths=[])
