"""What is checked of Blueprint: the conformance kit on every class of its card, and what is its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from maquette import AutoModelForSequenceClassification, AutoTokenizer
from maquette.testing import Case, cases, check_config, one_fresh_process, tiny_config
from maquette.workshop.templates.encoder import CARD
from maquette.workshop.templates.encoder.configuration import BlueprintConfig
from maquette.workshop.templates.encoder.modeling import BlueprintForSequenceClassification
from maquette.workshop.templates.encoder.tokenization import BlueprintTokenizerFast


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
    """Installed, it is found by the AutoClasses, model and tokenizer, without any import of it."""
    texts = ["a text to learn from, and another one", "the text goes on"]
    tokenizer = BlueprintTokenizerFast.learn(texts, 270)
    model = BlueprintForSequenceClassification(BlueprintConfig(vocab_size=len(tokenizer), dim=16, depth=1)).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, reader = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    assert (type(again), type(reader)) == (BlueprintForSequenceClassification, BlueprintTokenizerFast)
    batch = reader(texts, padding=True, return_tensors="pt")
    assert reader.batch_decode(batch["input_ids"], skip_special_tokens=True) == texts
    assert torch.equal(again(**batch).logits, model(**batch).logits)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = BlueprintForSequenceClassification(BlueprintConfig(vocab_size=20, dim=16, depth=1)).eval()
    ids, mask = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    alone, padded = model(ids[:1, :3]).logits, model(ids, mask).logits[:1]
    assert torch.allclose(alone, padded, atol=1e-6)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of twice heads"):
        BlueprintConfig(dim=20, heads=4)
