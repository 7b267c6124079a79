"""Byte-level BPE of both kinds: the ids of the Rust library and of the peer, on texts that are hard to cut."""

import copy
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from byte_level import TEXTS, cutter, train, write
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from maquette import AutoTokenizer, ByteLevelBPETokenizer, ByteLevelBPETokenizerFast
from maquette.errors import FileFormatError, InputError, MissingFileError
from maquette.text.byte_pairs import GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN, BytePairs
from maquette.text.tokenization_fast import PreTrainedTokenizerFast

END = "<|endoftext|>"
PATTERNS = {"gpt2": None, "llama3": LLAMA3_PATTERN, "qwen2": QWEN2_PATTERN}
BLANKS = " \t\n\r\x0b\x0c\x85\xa0\u2003\u3000\x1c"
HARD = st.text(st.sampled_from(BLANKS + "  ab'sS1½.!,日é\u0301\x00🙂"), max_size=24)


class GPT2(ByteLevelBPETokenizer):
    default_tokens: ClassVar = {"unk_token": END, "bos_token": END, "eos_token": END}


class GPT2Fast(ByteLevelBPETokenizerFast):
    default_tokens: ClassVar = {"unk_token": END, "bos_token": END, "eos_token": END}
    slow_tokenizer_class = GPT2


class Qwen2(ByteLevelBPETokenizer):
    pattern, normal_form = QWEN2_PATTERN, "NFC"
    default_tokens: ClassVar = {"unk_token": END, "eos_token": END, "pad_token": END}


class Qwen2Fast(ByteLevelBPETokenizerFast):
    pattern, normal_form = QWEN2_PATTERN, "NFC"
    default_tokens: ClassVar = {"unk_token": END, "eos_token": END, "pad_token": END}
    slow_tokenizer_class = Qwen2


def make(kind: Any, name: str, **options: Any) -> Any:
    vocabulary, merges = train(PATTERNS[name])
    return kind(vocab=vocabulary, merges=merges, **options)


def rust(name: str, *, form: str | None = None, prefix: bool = False, ignore_merges: bool = False) -> Tokenizer:
    """Make the oracle: the library's tokenizer, from nothing of ours."""
    vocabulary, merges = train(PATTERNS[name])
    backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=ignore_merges))
    backend.pre_tokenizer = cutter(PATTERNS[name], prefix=prefix)
    backend.decoder = decoders.ByteLevel()
    if form:
        backend.normalizer = getattr(normalizers, form)()
    return backend


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("name", PATTERNS)
def test_words_have_the_ids_that_whole_texts_have(name: str, prefix: bool) -> None:
    oracle = rust(name, prefix=prefix)
    wanted = [row.ids for row in oracle.encode_batch(TEXTS, add_special_tokens=False)]
    words = BytePairs(oracle)
    assert words.cuts
    assert words.encode(TEXTS) == wanted
    assert len(words) > 100
    assert words.encode(TEXTS) == wanted  # all known now
    assert [words.encode([text])[0] for text in TEXTS] == wanted
    plain = [text for text in TEXTS if text.isascii() and "  " not in text and "\x00" not in text]
    assert words.encode(plain) == [wanted[TEXTS.index(text)] for text in plain]


ORACLES = {name: rust(name) for name in PATTERNS}
WORDS = {name: BytePairs(oracle) for name, oracle in ORACLES.items()}


@settings(max_examples=300, deadline=None)
@given(st.lists(HARD, max_size=4), st.sampled_from(list(PATTERNS)))
def test_no_text_is_cut_where_a_token_goes_on(texts: list[str], name: str) -> None:
    wanted = [row.ids for row in ORACLES[name].encode_batch(texts)]
    assert WORDS[name].encode(texts) == wanted


def test_patterns_that_are_not_known_are_not_cut() -> None:
    backend = rust("gpt2")
    backend.pre_tokenizer = cutter(r"\w+ \w+|\s|\S")
    words = BytePairs(backend)
    assert not words.cuts
    assert words.encode(["one two three"]) == [backend.encode("one two three").ids]
    backend = rust("gpt2")
    backend.model.dropout = 0.5
    assert not BytePairs(backend).cuts


@pytest.mark.parametrize("kind", [ByteLevelBPETokenizer, ByteLevelBPETokenizerFast])
def test_decoding_is_the_librarys(kind: Any) -> None:
    oracle, tokenizer = rust("gpt2"), make(kind, "gpt2")
    draw = random.Random(0)
    rows = [[draw.randrange(oracle.get_vocab_size()) for _ in range(draw.randrange(12))] for _ in range(200)]
    assert tokenizer.batch_decode(rows) == [oracle.decode(row, skip_special_tokens=False) for row in rows]
    assert any("\ufffd" in text for text in tokenizer.batch_decode(rows))
    assert tokenizer.batch_decode(tokenizer(TEXTS).input_ids) == TEXTS


def test_errors_say_what_becomes_of_broken_bytes() -> None:
    tokenizer = make(ByteLevelBPETokenizer, "gpt2", errors="ignore")
    broken = tokenizer("é").input_ids if len(tokenizer("é").input_ids) > 1 else tokenizer("日").input_ids[:1]
    assert tokenizer.decode([*tokenizer("a").input_ids, *broken[:1]]) == "a"
    assert tokenizer._arguments()["errors"] == "ignore"


def test_both_kinds_agree_on_added_tokens_and_options() -> None:
    for name, form in (("gpt2", None), ("qwen2", "NFC"), ("llama3", None)):
        slow, fast = (make(kind, name) for kind in ((Qwen2, Qwen2Fast) if form else (GPT2, GPT2Fast)))
        for tokenizer in (slow, fast):
            tokenizer.add_tokens([AddedToken("<new>", lstrip=True), "Café", AddedToken("x=", rstrip=True)])
            tokenizer.pad_token = END
        for options in ({}, {"padding": True, "padding_side": "left"}, {"truncation": True, "max_length": 7}):
            more = [*TEXTS, "un Cafe\u0301 , Café"]
            assert dict(slow(more, **options)) == dict(fast(more, **options)), name
        assert slow.batch_decode(slow(TEXTS).input_ids) == fast.batch_decode(fast(TEXTS).input_ids)
        words = [text.split() for text in TEXTS]
        assert slow(words, is_split_into_words=True) == fast(words, is_split_into_words=True)
        assert [slow.tokenize(text) for text in TEXTS] == [fast.tokenize(text) for text in TEXTS]


@pytest.mark.parametrize("form", [None, "NFC"])
def test_batches_of_the_fast_kind_are_what_single_texts_are(form: str | None) -> None:
    kind, name = (Qwen2Fast, "qwen2") if form else (GPT2Fast, "gpt2")
    texts = [text for text in TEXTS if END not in text and (form is None or text.isascii())]
    for side in ("right", "left"):
        tokenizer = make(kind, name, truncation_side=side, add_bos_token=form is None, pad_token=END)
        for options in ({}, {"truncation": True, "max_length": 5}, {"add_special_tokens": False}):
            wanted = [tokenizer(text, **options).input_ids for text in texts]
            words = len(tokenizer._words)
            rows = tokenizer(texts, **options)
            assert rows.input_ids == wanted
            assert [row.ids for row in rows.encodings] == wanted  # asked for later, from the library
        assert words > 20
    tokenizer.add_tokens(["the"])
    assert tokenizer(["the  cat", "a"]).input_ids == [tokenizer("the  cat").input_ids, tokenizer("a").input_ids]
    tokenizer.backend_tokenizer.pre_tokenizer = cutter(r"\S|\s+")  # from here on the words would be wrong
    assert tokenizer(texts).input_ids == [tokenizer(text).input_ids for text in texts] != wanted


def test_halves_of_surrogate_pairs_are_broken_characters() -> None:
    for kind in (Qwen2, Qwen2Fast, GPT2, GPT2Fast):
        tokenizer = make(kind, "qwen2")
        assert tokenizer(["a\ud800b", "fine"]).input_ids == tokenizer(["a\ufffdb", "fine"]).input_ids


@pytest.mark.parametrize("kind", [GPT2, GPT2Fast])
def test_begin_and_end_tokens_are_settings(kind: Any, tmp_path: Path) -> None:
    tokenizer = make(kind, "gpt2", add_bos_token=True)
    end, plain = tokenizer.eos_token_id, make(kind, "gpt2")
    text = plain("a cat").input_ids
    assert (plain.add_bos_token, plain.add_eos_token) == (False, False)
    assert tokenizer("a cat").input_ids == [end, *text]
    assert tokenizer("a cat", "a cat", return_token_type_ids=True).token_type_ids == [0] * (len(text) + 1) + [1] * (
        len(text) + 1
    )
    tokenizer.add_eos_token = True
    tokenizer.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert loaded("a cat").input_ids == [end, *text, end] == pickle.loads(pickle.dumps(loaded))("a cat").input_ids
    assert (loaded.add_bos_token, loaded.add_eos_token) == (True, True)
    loaded.add_bos_token = False
    assert copy.deepcopy(loaded)("a cat").input_ids == [*text, end]


def test_ids_with_gaps_are_saved_without_what_would_close_them(tmp_path: Path) -> None:
    size = len(train(None)[0])
    decoder = {size + 5: AddedToken("<gap>", special=True)}
    tokenizer = make(GPT2, "gpt2", added_tokens_decoder=decoder)
    assert tokenizer("<gap>").input_ids == [size + 5]
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    assert GPT2.from_pretrained(tmp_path)("a<gap>").input_ids == tokenizer("a<gap>").input_ids
    with pytest.raises(InputError, match="'<gap>' has the id"):
        GPT2Fast.from_slow(tokenizer)


@pytest.mark.parametrize("kind", [ByteLevelBPETokenizer, ByteLevelBPETokenizerFast])
def test_a_tokenizer_json_is_believed(kind: Any, tmp_path: Path) -> None:
    """Llama 3's form: merges ignored for whole words, special tokens beyond the vocabulary, a begin token."""
    backend = rust("llama3", ignore_merges=True)
    backend.add_special_tokens(["<|begin_of_text|>", *(f"<|reserved_{i}|>" for i in range(20))])
    begin = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
        special_tokens=[("<|begin_of_text|>", backend.token_to_id("<|begin_of_text|>"))],
    )
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), begin])
    backend.save(str(tmp_path / "tokenizer.json"))
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|reserved_3|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names}))
    tokenizer = kind.from_pretrained(tmp_path)
    texts = [*TEXTS, "<|begin_of_text|>chat<|reserved_3|> end"]
    wanted = [row.ids for row in backend.encode_batch(texts)]
    assert tokenizer(texts).input_ids == wanted
    assert tokenizer.add_bos_token and not tokenizer.add_eos_token
    assert len(tokenizer) == backend.get_vocab_size()
    tokenizer.save_pretrained(tmp_path / "again")
    assert kind.from_pretrained(tmp_path / "again")(texts).input_ids == wanted
    other = {ByteLevelBPETokenizer: ByteLevelBPETokenizerFast, ByteLevelBPETokenizerFast: ByteLevelBPETokenizer}[kind]
    assert other.from_pretrained(tmp_path / "again")(texts).input_ids == wanted
    assert kind.from_pretrained(tmp_path, add_bos_token=False)("a").input_ids == wanted[TEXTS.index("a")][1:]
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path), PreTrainedTokenizerFast)
    if kind is ByteLevelBPETokenizerFast:
        offsets = tokenizer("a cat", return_offsets_mapping=True).offset_mapping
        assert offsets == backend.encode("a cat").offsets


def test_prefix_spaces_follow_the_file_unless_asked_for(tmp_path: Path) -> None:
    for name in ("gpt2", "qwen2"):
        wanted = [row.ids for row in rust(name, prefix=True).encode_batch(TEXTS)]
        for kind in (ByteLevelBPETokenizer, ByteLevelBPETokenizerFast):
            vocabulary, merges = train(PATTERNS[name])
            made = type("Made", (kind,), {"pattern": PATTERNS[name] or GPT2_PATTERN})
            tokenizer = made(vocab=vocabulary, merges=merges, add_prefix_space=True)
            found = tokenizer([text for text in TEXTS if END not in text]).input_ids
            assert found == [row for row, text in zip(wanted, TEXTS, strict=True) if END not in text]
            tokenizer.save_pretrained(tmp_path / name)
            assert made.from_pretrained(tmp_path / name).add_prefix_space
            assert not made.from_pretrained(tmp_path / name, add_prefix_space=False).add_prefix_space


# The peer

PEER = """
import json, sys
from transformers import AddedToken, AutoTokenizer, GPT2Tokenizer, Qwen2Tokenizer
task = json.load(sys.stdin)
found = {}
for name, kind in (("gpt2", GPT2Tokenizer), ("qwen2", Qwen2Tokenizer)):
    vocab, merges = task[name]
    for key, options in task["options"].items():
        tokenizer = kind(vocab=vocab, merges=[tuple(merge) for merge in merges], **options)
        tokenizer.add_tokens([AddedToken("<new>", lstrip=True, normalized=False)])
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(f"{task['folder']}/{name}-{key}")
        rows = tokenizer(task["texts"], task["pairs"] or None, return_offsets_mapping=True)
        short = tokenizer(task["texts"], padding=True, truncation=True, max_length=9, padding_side="left")
        found[f"{name}-{key}"] = {
            "ids": rows["input_ids"], "offsets": rows["offset_mapping"], "short": dict(short),
            "texts": [tokenizer.decode(row) for row in rows["input_ids"]],
            "plain": [tokenizer.decode(row, skip_special_tokens=True) for row in rows["input_ids"]],
            "size": len(tokenizer),
        }
        if (ours := task["ours"]):
            loaded = AutoTokenizer.from_pretrained(f"{ours}/{name}-{key}")
            found[f"{name}-{key}"]["ours"] = loaded(task["texts"])["input_ids"]
print(json.dumps(found))
"""
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "prefix": {"add_prefix_space": True},
    "begin": {"add_bos_token": True},
}


def test_ids_texts_and_offsets_are_the_peers(tmp_path: Path, run_peer: Callable[..., str]) -> None:
    kinds = {"gpt2": (GPT2, GPT2Fast), "qwen2": (Qwen2, Qwen2Fast)}
    made = {}
    for name, both in kinds.items():
        for key, options in OPTIONS.items():
            for kind in both:
                tokenizer = make(kind, name, **options)
                tokenizer.add_tokens([AddedToken("<new>", lstrip=True, normalized=False)])
                tokenizer.pad_token = tokenizer.eos_token
                made[kind, key] = tokenizer
            tokenizer.save_pretrained(tmp_path / "ours" / f"{name}-{key}")
    task = {"texts": TEXTS, "pairs": [], "options": OPTIONS, "folder": str(tmp_path), "ours": str(tmp_path / "ours")}
    task |= {name: train(PATTERNS[name]) for name in kinds}
    found = json.loads(run_peer(PEER, given=json.dumps(task)))
    for (kind, key), tokenizer in made.items():
        name = next(name for name, both in kinds.items() if kind in both)
        wanted = found[f"{name}-{key}"]
        for each in (tokenizer, kind.from_pretrained(tmp_path / f"{name}-{key}")):
            rows = each(TEXTS)
            assert rows.input_ids == wanted["ids"], (kind, key)
            assert {*rows} == {"input_ids", "attention_mask"}
            short = each(TEXTS, padding=True, truncation=True, max_length=9, padding_side="left")
            assert {n: short[n] for n in wanted["short"]} == wanted["short"]
            assert each.batch_decode(rows.input_ids) == wanted["texts"]
            assert each.batch_decode(rows.input_ids, skip_special_tokens=True) == wanted["plain"]
            assert len(each) == wanted["size"]
            if each.is_fast:
                offsets = each(TEXTS, return_offsets_mapping=True).offset_mapping
                assert [[list(span) for span in row] for row in offsets] == wanted["offsets"]
        assert wanted["ours"] == wanted["ids"]


# Errors


@pytest.mark.parametrize("kind", [ByteLevelBPETokenizer, ByteLevelBPETokenizerFast])
def test_broken_files_are_one_error_that_says_where(kind: Any, tmp_path: Path) -> None:
    vocabulary, merges = write(tmp_path)
    with pytest.raises(InputError, match=r"vocab_file='vocab\.json'"):
        kind()
    with pytest.raises(MissingFileError, match="nowhere"):
        kind(vocabulary, str(tmp_path / "nowhere.txt"))
    Path(merges).write_text("#version: 0.2\na b c\n", encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"merges\.txt, line 2: 'a b c'"):
        kind(vocabulary, merges)
    Path(merges).write_text("zz yy\n", encoding="utf-8")
    with pytest.raises(FileFormatError, match="'zz', which is not in the vocabulary"):
        kind(vocabulary, merges)
    Path(merges).unlink()
    with pytest.raises(MissingFileError, match=r"no merges\.txt"):
        kind.from_pretrained(tmp_path)
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(FileFormatError, match="no byte-level BPE tokenizer: its model is WordLevel"):
        kind.from_pretrained(tmp_path)


def test_bytes_without_a_token_are_the_unknown_one() -> None:
    tokens = {"<unk>": 0, "a": 1, "b": 2, "ab": 3, "Ġ": 4}
    for kind in (ByteLevelBPETokenizer, ByteLevelBPETokenizerFast):
        tokenizer = kind(vocab=tokens, merges=["a b"], unk_token="<unk>")
        assert tokenizer("ab xa").input_ids == [3, 4, 0, 1]
