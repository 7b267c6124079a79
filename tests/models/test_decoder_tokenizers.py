"""Tokenizers of the decoders: the ids of other libraries, begin tokens, padding, and what AutoTokenizer chooses."""

import io
import json

import pytest
import sentencepiece
from byte_level import TEXTS, train
from byte_level import write as write_byte_level
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

import maquette
from maquette import AutoTokenizer
from maquette.text.byte_pairs import QWEN2_PATTERN

PATTERNS = {"gpt2": None, "qwen2": QWEN2_PATTERN, "qwen3": QWEN2_PATTERN}
CLASSES = {"gpt2": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"}
SPECIAL = {"gpt2": {"unk_token", "bos_token", "eos_token"}, "qwen2": {"unk_token", "eos_token", "pad_token"}}
SPECIAL["qwen3"] = SPECIAL["qwen2"]
PIECES = {
    "llama": {"unk_id": 0, "bos_id": 1, "eos_id": 2},
    "gemma2": {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3},
}
BEGIN = {"llama": ("<s>", "</s>"), "mistral": ("<s>", "</s>"), "gemma2": ("<bos>", "<eos>")}
BEGIN["gemma3_text"] = BEGIN["gemma2"]


def by_library(pattern):
    """Put the tokenizer together as the models' authors did."""
    vocabulary, merges = train(pattern)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        from tokenizers import Regex

        cut = pre_tokenizers.Split(Regex(pattern), "isolated")
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("model_type", CLASSES)
def test_byte_level_families_give_the_librarys_ids(model_type, fast, tmp_path):
    write_byte_level(tmp_path, PATTERNS[model_type])
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, use_fast=fast)
    assert type(tokenizer).__name__ == CLASSES[model_type] + ("Fast" if fast else "")
    library = by_library(PATTERNS[model_type])
    assert tokenizer(TEXTS).input_ids == [library.encode(text).ids for text in TEXTS]
    assert {*tokenizer(TEXTS[0])} == {"input_ids", "attention_mask"}
    assert {*tokenizer.special_tokens_map} == SPECIAL[model_type]
    assert {*tokenizer.special_tokens_map.values()} == {"<|endoftext|>"}
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved", use_fast=fast)
    assert type(again) is type(tokenizer) and again(TEXTS).input_ids == tokenizer(TEXTS).input_ids


@pytest.mark.parametrize("model_type", BEGIN)
def test_sentencepiece_families_begin_rows(model_type, tmp_path):
    begin, end = BEGIN[model_type]
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS for line in text.splitlines() if line.strip()] * 5),
        model_writer=made,
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=begin == "<s>",
        bos_piece=begin,
        eos_piece=end,
        minloglevel=2,
        **PIECES["llama" if begin == "<s>" else "gemma2"],
    )
    library = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    (tmp_path / "tokenizer.model").write_bytes(made.getvalue())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    family = "Gemma" if begin == "<bos>" else "Llama"
    assert type(tokenizer) is getattr(maquette, f"{family}Tokenizer") is getattr(maquette, f"{family}TokenizerFast")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.padding_side) == (begin, end, "left")
    texts = [text for text in TEXTS if text.strip()]
    assert tokenizer(texts).input_ids == [[library.bos_id(), *library.encode(text)] for text in texts]
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(again) is type(tokenizer) and again(texts).input_ids == tokenizer(texts).input_ids


def test_a_file_without_a_template_is_believed(tmp_path):
    """`tokenizer.json` decides, whatever the class that a folder names would do by itself; a setting still counts."""
    raw = Tokenizer(models.BPE({"a": 0, "b": 1, "<s>": 2}, []))
    raw.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert AutoTokenizer.from_pretrained(tmp_path)("ab")["input_ids"] == [0, 1]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "add_bos_token": True}))
    assert AutoTokenizer.from_pretrained(tmp_path)("ab")["input_ids"] == [2, 0, 1]


def test_t5_ends_rows_and_has_sentinels(tmp_path):
    """Pieces are the library's; sentinels come behind them, the first one last, as in the files that Google gives."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS for line in text.splitlines() if line.strip()] * 5),
        model_writer=made,
        model_type="unigram",
        vocab_size=270,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    library = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    (tmp_path / "spiece.model").write_bytes(made.getvalue())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert type(tokenizer) is maquette.T5Tokenizer is maquette.T5TokenizerFast
    pieces = library.get_piece_size()
    assert len(tokenizer) == pieces + 100
    assert tokenizer.get_sentinel_token_ids() == [pieces + 99 - number for number in range(100)]
    assert tokenizer("the <extra_id_0> of <extra_id_11>").input_ids == [
        *library.encode("the"),
        pieces + 99,
        *library.encode("of"),
        pieces + 88,
        1,
    ]
    texts = ["the argument parser", "  two  words ", "x = [1, 2]"]
    assert tokenizer(texts).input_ids == [[*library.encode(text), 1] for text in texts]
    one, two = (library.encode(text) for text in texts[:2])
    assert tokenizer(*texts[:2]).input_ids == [*one, 1, *two, 1]
    assert tokenizer(texts, padding=True, return_tensors="np").input_ids[0, -1] in (0, 1)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(again) is type(tokenizer) and again(texts).input_ids == tokenizer(texts).input_ids
    assert len(again) == pieces + 100


@pytest.mark.parametrize("fast", [True, False])
def test_bart_lays_rows_out_as_roberta_does(fast, tmp_path):
    vocabulary, merges = train(None)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    ids = {token: number for number, token in enumerate([*special, *(t for t in vocabulary if t not in special)])}
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in merges))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bart"}))
    library = Tokenizer(models.BPE(vocab=ids, merges=merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, use_fast=fast)
    assert type(tokenizer).__name__ == "BartTokenizer" + ("Fast" if fast else "")
    one, two = (library.encode(text).ids for text in ("an argument", " parser x"))
    assert tokenizer("an argument").input_ids == [0, *one, 2]
    assert tokenizer("an argument", " parser x").input_ids == [0, *one, 2, 2, *two, 2]
    assert tokenizer("an <mask>").input_ids == [0, *library.encode("an").ids, 4, 2]
    assert (tokenizer.pad_token_id, tokenizer.model_max_length) == (1, 1024)
