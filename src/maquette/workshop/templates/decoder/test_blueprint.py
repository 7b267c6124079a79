"""What is checked of Blueprint: the conformance kit on every class of its card, and what is its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from maquette import AutoModelForCausalLM, AutoTokenizer
from maquette.testing import Case, cases, check_config, one_fresh_process, tiny_config
from maquette.workshop.templates.decoder import CARD
from maquette.workshop.templates.decoder.configuration import BlueprintConfig
from maquette.workshop.templates.decoder.modeling import BlueprintForCausalLM
from maquette.workshop.templates.decoder.tokenization import BlueprintTokenizerFast


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
    model = BlueprintForCausalLM(BlueprintConfig(vocab_size=len(tokenizer), dim=16, depth=1)).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, reader = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert (type(again), type(reader)) == (BlueprintForCausalLM, BlueprintTokenizerFast)
    batch = reader(texts, padding=True, return_tensors="pt")
    assert reader.batch_decode(batch["input_ids"], skip_special_tokens=True) == texts
    assert torch.equal(again(**batch).logits, model(**batch).logits)


def test_a_window_hides_what_lies_before_it() -> None:
    torch.manual_seed(0)
    model = BlueprintForCausalLM(BlueprintConfig(vocab_size=20, dim=16, depth=1, window=2)).eval()
    one, other = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[9, 2, 3, 4]])
    assert torch.allclose(model(one).logits[:, 2:], model(other).logits[:, 2:])
    assert not torch.allclose(model(one).logits[:, 1], model(other).logits[:, 1])


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of twice heads"):
        BlueprintConfig(dim=20, heads=4)
