"""The report's texts along the way, and the x-ray's tree in it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headless_page import CHROMIUM, Element, open_page, read_elements
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from maquette import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    ReportTexts,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from maquette.errors import ConfigurationError
from maquette.training.report import modules

browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium, which opens the page, is not installed")

HOSTILE = "<script>alert(1)</script>"
WORDS = ["<pad>", "<s>", "</s>", "the", "cat", "sat", "on", "mat", HOSTILE]


def tokenizer() -> PreTrainedTokenizerFast:
    content = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<pad>"))
    content.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=content, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def gpt2(**changes: Any) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    size = {"vocab_size": 9, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=1, eos_token_id=2, **changes))


def make(folder: Path, *callbacks: Any, model: Any = None, **changes: Any) -> Trainer:
    rows = [{"input_ids": [1, 3, 4, 5, 6, 3, 7, 2], "labels": [1, 3, 4, 5, 6, 3, 7, 2]}] * 64
    settings = {"max_steps": 20, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "save_strategy": "no"}
    args = TrainingArguments(str(folder), disable_tqdm=True, **{**settings, **changes})
    own = model if model is not None else gpt2()
    return Trainer(own, args, train_dataset=rows, processing_class=tokenizer(), callbacks=callbacks)


def report(folder: Path) -> Element:
    return read_elements((folder / "report.html").read_text(encoding="utf-8"))


def texts(page: Element) -> dict[str, list[list[str]]]:
    """Give the steps and texts of each prompt."""
    return {
        table.one("caption").text: [[cell.text for cell in row.walk()] for row in table.one("tbody").all("tr")]
        for table in page.all("table", cls="texts")
    }


class Watch(TrainerCallback):
    """Sees after each step which modules train, and what comes next at random."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        modes = tuple(module.training for module in kwargs["model"].modules())
        drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))
        self.seen.append((modes, drawn))


def test_a_run_that_writes_texts_comes_to_the_same_weights(tmp_path: Path) -> None:
    runs = []
    for name, callbacks in (("with", [ReportTexts(["<s> the cat", HOSTILE], max_new_tokens=6)]), ("without", [])):
        watch = Watch()
        trainer = make(tmp_path / name, *callbacks, watch)
        trainer.model.transformer.h[0].eval()
        trainer.train()
        runs.append((trainer.model, watch.seen))
    (one, seen), (other, expected) = runs
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert seen == expected and len(seen) == 20
    written = texts(report(tmp_path / "with"))
    assert list(written) == ["<s> the cat …", f"{HOSTILE} …"]
    assert [step for step, _ in written["<s> the cat …"]] == [str(step) for step in range(0, 21, 2)]
    assert written["<s> the cat …"][-1][1] == "sat on the mat"
    assert not texts(report(tmp_path / "without")) and "Texts" not in report(tmp_path / "without").text


def test_a_resumed_run_goes_on_with_its_texts(tmp_path: Path) -> None:
    make(tmp_path, ReportTexts("the", every=7), max_steps=20, save_strategy="steps", save_steps=10).train()
    whole = texts(report(tmp_path))
    assert [step for step, _ in whole["the …"]] == ["0", "7", "14", "20"]
    again = ReportTexts("the", every=7)
    trainer = make(tmp_path, again, max_steps=20, save_strategy="steps", save_steps=10)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert texts(report(tmp_path)) == whole


def test_an_encoder_reads_the_prompt(tmp_path: Path) -> None:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(vocab_size=9, decoder_start_token_id=0, eos_token_id=2, **sizes))
    writes = ReportTexts("the cat", every=2, max_new_tokens=3)
    make(tmp_path, writes, model=model, max_steps=2).train()
    ids = model.eval().generate(torch.tensor([[3, 4]]), max_new_tokens=3)
    assert texts(report(tmp_path))["the cat …"][-1] == ["2", tokenizer().decode(ids[0], skip_special_tokens=True)]


def test_what_cannot_write_says_so_before_training(tmp_path: Path) -> None:
    trainer = make(tmp_path, ReportTexts("the"))
    trainer.processing_class = None
    with pytest.raises(ConfigurationError, match="needs the tokenizer"):
        trainer.train()
    for wrong in ({"prompts": []}, {"prompts": ["a", ""]}, {"prompts": "a", "every": 0}):
        with pytest.raises(ValueError, match=r"prompts|every"):
            ReportTexts(**wrong)


def test_texts_that_fail_later_do_not_end_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make(tmp_path, ReportTexts("the", every=5))
    own, calls = trainer.model.generate, []

    def generate(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("broken")
        return own(*args, **kwargs)

    monkeypatch.setattr(trainer.model, "generate", generate)
    trainer.train()
    assert trainer.state.global_step == 20 and len(calls) == 2
    assert "ReportTexts writes no more texts: broken" in caplog.text
    assert trainer.model.training
    assert len(texts(report(tmp_path))["the …"]) == 1


def test_another_process_writes_nothing(tmp_path: Path) -> None:
    writes, trainer = ReportTexts("the"), make(tmp_path)
    trainer.state.is_world_process_zero = False
    parts = {"model": trainer.model, "processing_class": trainer.processing_class}
    for event in (writes.on_train_begin, writes.on_step_end):
        event(trainer.args, trainer.state, trainer.control, **parts)
    assert writes.texts == []


def test_the_report_has_the_tree_of_the_x_ray(tmp_path: Path) -> None:
    trainer = make(tmp_path, max_steps=2, bf16=True)  # for which the model's forward is replaced
    trainer.train()
    rows = [[cell.text for cell in row.children] for row in report(tmp_path).one(cls="modules").all(cls="row")]
    assert rows[0] == ["module", "parameters", "FLOP", "share", "kept", "gives"]
    tree = {name: cells for name, *cells in rows[1:]}
    assert tree["GPT2LMHeadModel GPT2LMHeadModel"][2] == "100.0%"
    assert any("3 alike" in name and cells[1] for name, cells in tree.items())
    assert tree["lm_head Linear"][0] == "= 144"
    assert "A forward on 1×64 takes" in report(tmp_path).text


def test_a_model_that_cannot_be_looked_through_has_its_parameters(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("not this one")

    assert modules.look_through(Odd()) is None


@browser
def test_a_browser_opens_the_page(tmp_path: Path) -> None:
    make(tmp_path, ReportTexts(["<s> the cat", HOSTILE], every=5)).train()
    opened = open_page(tmp_path / "report.html")
    assert not opened.console
    assert len(opened.page.all("table", cls="texts")) == 2 and opened.page.one(cls="modules")
