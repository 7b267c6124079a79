"""Tokenizers of decoders as their `tokenizer.json` has them, wrapped: what the file says is believed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_level import TEXTS, cutter, train
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from maquette import AutoTokenizer
from maquette.text.byte_pairs import LLAMA3_PATTERN, QWEN2_PATTERN
from maquette.text.incremental_decoding import IncrementalDecoder
from maquette.text.tokenization_fast import PreTrainedTokenizerFast

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level(pattern: str | None, **options: Any) -> Tokenizer:
    backend = Tokenizer(models.BPE(*train(pattern), **options))
    backend.pre_tokenizer = cutter(pattern)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    return backend


def pieces(words: list[str]) -> Tokenizer:
    """Make BPE with byte fallback over words, each merged letter by letter."""
    vocabulary = dict.fromkeys(["<pad>", "<unk>", "<s>", "</s>", *BYTES, "▁"])
    merges: list[tuple[str, str]] = []
    for word in words:
        vocabulary |= dict.fromkeys(word)
        for size in range(2, len(word) + 1):
            vocabulary[word[:size]] = None
            merges.append((word[: size - 1], word[size - 1]))
    ids = {token: index for index, token in enumerate(vocabulary)}
    backend = Tokenizer(
        models.BPE(ids, list(dict.fromkeys(merges)), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.add_special_tokens(["<pad>", "<unk>", "<s>", "</s>"])
    return backend


def begin(token: str, backend: Tokenizer) -> Any:
    form = {"single": f"{token} $A", "pair": f"{token} $A {token}:1 $B:1"}
    return processors.TemplateProcessing(**form, special_tokens=[(token, backend.token_to_id(token))])


def gpt2() -> Tokenizer:
    backend = byte_level(None)
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend


def llama3() -> Tokenizer:
    backend = byte_level(LLAMA3_PATTERN, ignore_merges=True)
    backend.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>", *(f"<|reserved_{i}|>" for i in range(9))])
    backend.post_processor = processors.Sequence([processors.ByteLevel(), begin("<|begin_of_text|>", backend)])
    return backend


def qwen2() -> Tokenizer:
    backend = byte_level(QWEN2_PATTERN)
    backend.normalizer = normalizers.NFC()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return backend


def mistral() -> Tokenizer:
    backend = pieces(["▁the", "▁cat", "ing", "▁▁", "é"])
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.post_processor = begin("<s>", backend)
    return backend


def gemma() -> Tokenizer:
    backend = pieces(["▁the", "▁cat", "ing", "▁▁", "é"])
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_tokens(["▁▁"])
    backend.post_processor = begin("<s>", backend)
    return backend


def odd() -> Tokenizer:
    """Cut in three steps, as newer models are."""
    backend = byte_level(None)
    steps = [
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
        pre_tokenizers.Split(Regex("[一-龥ぁ-ヿ]+"), "isolated"),
    ]
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return backend


NAMES: dict[Any, dict[str, str]] = {
    gpt2: {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    llama3: {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|reserved_0|>"},
    qwen2: {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    mistral: {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
    gemma: {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
    odd: {"pad_token": "<|endoftext|>"},
}


@pytest.mark.parametrize("make", NAMES)
def test_ids_and_texts_are_the_librarys(make: Any, tmp_path: Path) -> None:
    backend, names = make(), NAMES[make]
    texts = [*TEXTS, "the cat is  singing <s>the</s> end", f"<|im_start|>user\n{TEXTS[0]}<|im_end|>\n"]
    wanted = [row.ids for row in backend.encode_batch(texts)]
    made = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    made.save_pretrained(tmp_path)
    for tokenizer in (made, AutoTokenizer.from_pretrained(tmp_path)):
        rows = tokenizer(texts)
        assert {*rows} == {"input_ids", "attention_mask"}  # as a decoder's generate takes them
        assert rows.input_ids == wanted
        known = backend.decode_batch(wanted, skip_special_tokens=True)
        assert tokenizer.batch_decode(wanted, skip_special_tokens=True) == known
        for row, text in zip(wanted, known, strict=True):
            decoder = IncrementalDecoder(tokenizer, skip_special_tokens=True)
            assert "".join([*map(decoder.feed, row), decoder.finish()]) == text
        padded = tokenizer(texts, padding=True, padding_side="left", return_tensors="np")
        width = max(map(len, wanted))
        assert padded.input_ids.tolist() == [[tokenizer.pad_token_id] * (width - len(row)) + row for row in wanted]
        assert np.array_equal(padded.attention_mask.sum(1), list(map(len, wanted)))
    if made.bos_token and make is not gpt2:
        assert [row.count(made.bos_token_id) for row in made(["a", "b"]).input_ids] == [1, 1]


def test_begin_and_end_are_settings_of_wrapped_tokenizers_too(tmp_path: Path) -> None:
    names = NAMES[llama3]
    backend = llama3()
    text = backend.encode("a cat", add_special_tokens=False).ids
    ends = backend.token_to_id("<|begin_of_text|>"), backend.token_to_id("<|eot_id|>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, add_bos_token=True, **names)
    assert tokenizer.backend_tokenizer.to_str() == backend.to_str()  # it says so already
    tokenizer.add_eos_token = True
    tokenizer.save_pretrained(tmp_path)
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path)("a cat").input_ids == [ends[0], *text, ends[1]]
    assert AutoTokenizer.from_pretrained(tmp_path, add_bos_token=False)("a cat").input_ids == [*text, ends[1]]


def test_token_types_are_given_where_texts_are_told_apart(tmp_path: Path) -> None:
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "a", "b", "</s>"]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(word, index) for index, word in enumerate(words)]
    form: Any = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"}
    assert "token_type_ids" not in PreTrainedTokenizerFast(tokenizer_object=backend)("a")
    backend.post_processor = processors.TemplateProcessing(**form, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert tokenizer("a", "b").token_type_ids == [0, 0, 0, 1, 1]
    assert "token_type_ids" not in PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=["input_ids"])(
        "a"
    )
    ends: Any = {"single": "$A </s>", "pair": "$A </s> $B:1 </s>:1"}
    backend.post_processor = processors.TemplateProcessing(**ends, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    assert "token_type_ids" not in tokenizer("a")
    assert tokenizer("a", "b", return_token_type_ids=True).token_type_ids == [0, 0, 1, 1]
    tokenizer.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["model_input_names"] == ["input_ids", "attention_mask"]
