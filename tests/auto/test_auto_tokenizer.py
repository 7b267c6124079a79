"""AutoTokenizer: which class is found, of which kind."""

import json
from pathlib import Path

import pytest

from maquette import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertTokenizer,
    DistilBertTokenizerFast,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    UnknownNameError,
    registry,
)

ROOT = Path(__file__).parents[2]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s"]


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return str(tmp_path / "vocab.txt")


@pytest.fixture
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_configs", "_classes"):
        monkeypatch.setattr(registry, name, {})


@pytest.mark.parametrize("saved_as", [DistilBertTokenizer, DistilBertTokenizerFast])
def test_both_kinds_are_found_whichever_was_saved(tmp_path: Path, vocabulary: str, saved_as: type) -> None:
    saved_as(vocab_file=vocabulary, padding_side="left").save_pretrained(tmp_path / "saved")
    fast = AutoTokenizer.from_pretrained(tmp_path / "saved")
    slow = AutoTokenizer.from_pretrained(tmp_path / "saved", use_fast=False)
    assert (type(fast), type(slow)) == (DistilBertTokenizerFast, DistilBertTokenizer)
    assert fast("hello worlds").input_ids == slow("hello worlds").input_ids == [2, 5, 6, 7, 3]
    assert fast.padding_side == slow.padding_side == "left"
    assert AutoTokenizer.from_pretrained(tmp_path / "saved", padding_side="right").padding_side == "right"


def test_the_model_type_decides_where_the_tokenizer_does_not_say(tmp_path: Path, vocabulary: str) -> None:
    DistilBertConfig().save_pretrained(tmp_path)
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is DistilBertTokenizerFast
    (tmp_path / "config.json").unlink()
    assert type(AutoTokenizer.from_pretrained(tmp_path, config=DistilBertConfig())) is DistilBertTokenizerFast
    with pytest.raises(UnknownNameError, match="does not say which tokenizer"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_an_unknown_class_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DistilBertTokeniser"}))
    with pytest.raises(UnknownNameError, match=r"Did you mean 'DistilBertTokenizer'"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_a_bare_tokenizer_json_is_enough(tmp_path: Path, vocabulary: str) -> None:
    DistilBertTokenizerFast(vocab_file=vocabulary).backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is PreTrainedTokenizerFast
    assert loaded("hello worlds").input_ids == [2, 5, 6, 7, 3]


@pytest.mark.usefixtures("_forget")
def test_what_is_registered_comes_first(tmp_path: Path, vocabulary: str) -> None:
    class MineConfig(PretrainedConfig):
        model_type = "mine"

    class Mine(DistilBertTokenizer):
        pass

    registry.register_config("mine", MineConfig)
    MineConfig().save_pretrained(tmp_path)
    AutoTokenizer.register(MineConfig, Mine)
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is Mine  # no fast kind: the Python one
    AutoTokenizer.register(MineConfig, fast_tokenizer_class=DistilBertTokenizerFast)
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is DistilBertTokenizerFast
    assert type(AutoTokenizer.from_pretrained(tmp_path, use_fast=False)) is Mine
    with pytest.raises(UnknownNameError, match="exist_ok"):
        AutoTokenizer.register(MineConfig, DistilBertTokenizer)
    with pytest.raises(UnknownNameError, match="or both"):
        AutoTokenizer.register(MineConfig)
    with pytest.raises(TypeError, match="from_pretrained"):
        AutoTokenizer()


def test_a_built_in_tokenizer_that_is_registered_carries_no_code(tmp_path: Path, run_fresh) -> None:
    code = """
from pathlib import Path
from maquette import DistilBertTokenizer
DistilBertTokenizer.register_for_auto_class()
Path("vocab.txt").write_text("[PAD]\\n[UNK]\\n[CLS]\\n[SEP]\\n[MASK]\\na\\n")
DistilBertTokenizer("vocab.txt").save_pretrained("saved")
"""
    assert run_fresh(code) == ""
    assert not list((tmp_path / "saved").glob("*.py"))
    assert "auto_map" not in (tmp_path / "saved" / "tokenizer_config.json").read_text(encoding="utf-8")


def test_the_documented_table_is_what_the_cards_say() -> None:
    assert registry.support_table() in (ROOT / "docs" / "auto_classes.md").read_text(encoding="utf-8")
