"""`maquette try`: the pipeline that fits, on one input; a conversation with a decoder that has a template."""

import io
import json
import sys
from pathlib import Path

import pytest
import torch

from maquette import (
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertTokenizerFast,
    InputError,
    LlamaConfig,
    LlamaForCausalLM,
    UnknownNameError,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    pipeline,
)
from maquette.cli.main import main
from maquette.workshop import try_out
from maquette.workshop.templates.decoder.tokenization import BlueprintTokenizerFast

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "on", "the", "mat", "once", "upon", "time"]
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that fills masks, one that names images, and a decoder that talks."""
    root = tmp_path_factory.mktemp("try")
    torch.manual_seed(0)
    (root / "vocab.txt").write_text("\n".join(WORDS))
    config = DistilBertConfig(vocab_size=len(WORDS), dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    DistilBertForMaskedLM(config).save_pretrained(root / "fill")
    DistilBertTokenizerFast(vocab_file=root / "vocab.txt").save_pretrained(root / "fill")
    vision = {"image_size": 12, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    names = ViTConfig(**vision, intermediate_size=16, id2label={0: "calm", 1: "wild"})
    ViTForImageClassification(names).save_pretrained(root / "names")
    ViTImageProcessor(size=12).save_pretrained(root / "names")
    tokenizer = BlueprintTokenizerFast.learn(["a text to learn from"], 260)
    talk = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(talk).save_pretrained(root / "talk")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(root / "talk")
    return root


def test_the_answer_is_that_of_the_pipeline(folders: Path) -> None:
    found = try_out(folders / "fill", "a [MASK] sat", options={"top_k": 2})
    assert found.task == "fill-mask" and found.answer == pipeline(model=folders / "fill")("a [MASK] sat", top_k=2)
    made_up = try_out(folders / "fill")
    assert "[MASK]" in made_up.given and len(made_up.answer) == 5
    seen = try_out(folders / "names")
    assert {each["label"] for each in seen.answer} == {"calm", "wild"} and "64 × 64" in seen.given
    features = try_out(folders / "fill", "a cat", task="feature-extraction")
    assert len(features.answer[0]) == 4  # tokens


def test_a_decoder_with_a_template_answers_what_a_user_says(folders: Path) -> None:
    options = {"max_new_tokens": 4, "do_sample": False}
    found = try_out(folders / "talk", "hello", options=options)
    talk = pipeline(model=folders / "talk")([{"role": "user", "content": "hello"}], **options)
    assert found.answer == talk[0]["generated_text"][-1]["content"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["maquette", "try", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def test_the_command(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, str(folders / "fill"), "a [MASK] sat", "--option", "top_k=1", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["answer"]) == 1
    assert run(monkeypatch, str(folders / "names")) == 0
    assert {"calm", "wild", "score"} <= {*capsys.readouterr().out.split()}
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\nand again\n"))
    assert run(monkeypatch, str(folders / "talk"), "--option", "max_new_tokens=3", "--option", "do_sample=false") == 0
    assert capsys.readouterr().out.count("> ") >= 3  # two answers, and the end
    assert run(monkeypatch, str(folders / "nothing")) == 2
    assert run(monkeypatch, str(folders / "names"), str(folders / "no.png")) == 2


def test_what_cannot_be_tried_is_said(folders: Path) -> None:
    with pytest.raises(InputError, match="has no weights, so there is nothing to try"):
        try_out("maquette.models.distilbert.modeling:DistilBertForMaskedLM")
    with pytest.raises(UnknownNameError, match="Did you mean 'fill-mask'"):
        try_out(folders / "fill", task="fill-maks")
