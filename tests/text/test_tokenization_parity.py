"""The same as the peer's tokenizers, and folders that either library saved load in the other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from maquette import AutoTokenizer
from maquette.models.distilbert.tokenization import DistilBertTokenizer, DistilBertTokenizerFast
from maquette.text.tokenization_fast import PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS = [*SPECIAL, "the", "cat", "sat", "on", "mat", "a", "dog", "ran", ".", ",", "'", "don", "t", "s", "un", "##able"]
TOKENS += ["##s", "hello", "world", "é", "Dog", "漢", "字", "e"]
TEXTS = [
    "The cat sat on the mat.",
    "Don't, unable dogs! é É 漢字",
    "",
    "hello <x> Dog [SEP] new",
    "a\u200bdog\u0301\x00ran",
]
PAIRS = ["a dog ran", "the cats sat on a mat.", "hello", "", "a a a a a a a a a a"]
KINDS = [DistilBertTokenizer, DistilBertTokenizerFast]
CALLS: list[tuple[bool, dict[str, Any]]] = [
    (False, {}),
    (True, {"return_token_type_ids": True, "return_special_tokens_mask": True}),
    (False, {"padding": True, "truncation": True, "max_length": 6, "return_length": True}),
    (True, {"padding": "max_length", "truncation": "longest_first", "max_length": 9}),
    (False, {"padding": "longest", "pad_to_multiple_of": 8, "padding_side": "left"}),
    (False, {"truncation": True, "max_length": 6, "stride": 2, "return_overflowing_tokens": True, "padding": True}),
    (False, {"add_special_tokens": False, "return_attention_mask": False}),
]

# Runs in the peer's interpreter: argv is its source and target folders; prints what each call gives.
PEER = """
import json, sys
from transformers import AddedToken, AutoTokenizer, DistilBertTokenizer
task = json.load(sys.stdin)
if task["folder"]:
    tokenizer = (AutoTokenizer if task["auto"] else DistilBertTokenizer).from_pretrained(task["folder"])
else:
    tokenizer = DistilBertTokenizer(vocab={t: i for i, t in enumerate(task["tokens"])}, **task["options"])
    tokenizer.add_tokens([AddedToken("<x>", lstrip=True, normalized=False), "new"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<s>"], "eos_token": "</s>"})
if task["target"]:
    tokenizer.save_pretrained(task["target"])
calls = [dict(tokenizer(task["texts"], task["pairs"] if pair else None, **call)) for pair, call in task["calls"]]
ids = tokenizer(task["texts"])["input_ids"]
texts = [tokenizer.decode(row, clean_up_tokenization_spaces=True) for row in ids]
short = [tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=True) for row in ids]
print(json.dumps({
    "calls": calls, "texts": texts, "short": short, "tokens": [tokenizer.tokenize(text) for text in task["texts"]],
    "length": len(tokenizer), "class": type(tokenizer).__name__, "max": tokenizer.model_max_length,
    "special": tokenizer.all_special_tokens,
    "offsets": tokenizer(task["texts"], return_offsets_mapping=True)["offset_mapping"],
}))
"""


def ask_peer(
    run_peer: Callable[..., str],
    *,
    folder: Path | None = None,
    target: Path | None = None,
    auto: bool = False,
    **options: Any,
) -> Any:
    task = {
        "folder": str(folder or ""),
        "target": str(target or ""),
        "auto": auto,
        "options": options,
        "tokens": TOKENS,
    }
    task |= {"texts": TEXTS, "pairs": PAIRS, "calls": CALLS}
    return json.loads(run_peer(PEER, given=json.dumps(task)))


def make(kind: Any, **options: Any) -> Any:
    tokenizer = kind(vocab={token: index for index, token in enumerate(TOKENS)}, **options)
    tokenizer.add_tokens([AddedToken("<x>", lstrip=True, normalized=False), "new"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<s>"], "eos_token": "</s>"})
    return tokenizer


def compare(tokenizer: Any, peer: Any) -> None:
    for (pair, call), wanted in zip(CALLS, peer["calls"], strict=True):
        found = tokenizer(TEXTS, PAIRS if pair else None, **call)
        assert {name: found[name] for name in wanted} == wanted
        assert set(found) == set(wanted)
    ids = tokenizer(TEXTS).input_ids
    assert [tokenizer.decode(row) for row in ids] == peer["texts"]
    assert [tokenizer.decode(row, skip_special_tokens=True) for row in ids] == peer["short"]
    # the peer spells a token with the spaces that lstrip had it take along, which is no token of the vocabulary
    assert [tokenizer.tokenize(text) for text in TEXTS] == [[token.strip() for token in row] for row in peer["tokens"]]
    assert len(tokenizer) == peer["length"]
    assert set(tokenizer.all_special_tokens) == set(peer["special"])
    if tokenizer.is_fast:
        offsets = tokenizer(TEXTS, return_offsets_mapping=True).offset_mapping
        assert [[list(span) for span in row] for row in offsets] == peer["offsets"]


@pytest.mark.parametrize("options", [{}, {"do_lower_case": False}, {"strip_accents": False, "padding_side": "left"}])
def test_calls_are_the_peers(options: dict[str, Any], run_peer: Callable[..., str]) -> None:
    peer = ask_peer(run_peer, **options)
    for kind in KINDS:
        compare(make(kind, **options), peer)


@pytest.mark.parametrize("options", [{}, {"do_lower_case": False, "model_max_length": 64}])
def test_a_folder_of_the_peer_loads_here(options: dict[str, Any], tmp_path: Path, run_peer: Callable[..., str]) -> None:
    peer = ask_peer(run_peer, target=tmp_path, **options)
    for kind in (*KINDS, PreTrainedTokenizerFast):
        names = ["input_ids", "attention_mask"]
        tokenizer = kind.from_pretrained(tmp_path, clean_up_tokenization_spaces=True, model_input_names=names)
        compare(tokenizer, peer)
        assert kind is PreTrainedTokenizerFast or tokenizer.model_max_length == min(
            peer["max"], tokenizer.model_max_length
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["all", "without tokenizer.json"])
@pytest.mark.parametrize("options", [{}, {"do_lower_case": False, "padding_side": "left"}])
def test_a_folder_of_ours_loads_in_the_peer(
    kind: Any, file: str, options: dict[str, Any], tmp_path: Path, run_peer: Callable[..., str]
) -> None:
    tokenizer = make(kind, **options)
    tokenizer.save_pretrained(tmp_path)
    if file != "all":
        (tmp_path / "tokenizer.json").unlink()
    peer = ask_peer(run_peer, folder=tmp_path, auto=file == "all")
    compare(tokenizer, peer)
    assert peer["max"] == tokenizer.model_max_length


# Folders that transformers 5 writes of a tokenizer.json: special tokens as plain texts, their flags in that file only.

PEER_GENERIC = """
import json, sys
from transformers import AutoTokenizer, PreTrainedTokenizerFast
task = json.load(sys.stdin)
made = PreTrainedTokenizerFast(tokenizer_file=task["file"], **task["names"])
made.save_pretrained(task["target"])
def report(tokenizer):
    rows = tokenizer(task["texts"], truncation=True, max_length=9, padding=True)
    return {
        "rows": {name: rows[name] for name in ("input_ids", "attention_mask")},
        "plain": [tokenizer(text)["input_ids"] for text in task["texts"]],
        "decoded": [tokenizer.decode(row, skip_special_tokens=True) for row in rows["input_ids"]],
        "special": sorted(tokenizer.all_special_tokens),
        "image": [tokenizer.image_token, tokenizer.image_token_id],
        "sides": [tokenizer.padding_side, tokenizer.truncation_side, len(tokenizer)],
    }
print(json.dumps([report(made), report(AutoTokenizer.from_pretrained(task["ours"]))]))
"""


def test_generic_folders_load_both_ways(tmp_path: Path, run_peer: Callable[..., str]) -> None:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<pad>"], show_progress=False, initial_alphabet=alphabet
    )
    backend.train_from_iterator(["the cat sat on the mat"] * 5, trainer)
    special: Any = {"normalized": False, "special": True}
    backend.add_tokens([AddedToken("<mask>", lstrip=True, **special), AddedToken("<w>", single_word=True, **special)])
    backend.add_tokens([AddedToken("<img>", rstrip=True, **special)])
    backend.enable_truncation(max_length=9, direction="left")
    backend.enable_padding(direction="left", pad_id=0, pad_token="<pad>")
    backend.save(str(tmp_path / "tokenizer.json"))
    names: dict[str, Any] = {"mask_token": "<mask>", "pad_token": "<pad>", "image_token": "<img>"}
    names["extra_special_tokens"] = ["<w>"]
    texts = ["the cat <mask> sat", "a<mask>b <w> y<w>z", "the  <img>  cat on the mat , and on", "x != y , a", ""]
    ours = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **names)
    ours.save_pretrained(tmp_path / "ours")
    task = {
        "file": str(tmp_path / "tokenizer.json"),
        "ours": str(tmp_path / "ours"),
        "target": str(tmp_path / "theirs"),
    }
    theirs, reloaded = json.loads(run_peer(PEER_GENERIC, given=json.dumps(task | {"names": names, "texts": texts})))
    assert reloaded == theirs
    for folder in ("theirs", "ours"):
        found = AutoTokenizer.from_pretrained(tmp_path / folder)
        rows = found(texts, truncation=True, max_length=9, padding=True)
        assert {name: rows[name] for name in theirs["rows"]} == theirs["rows"]
        assert [found(text).input_ids for text in texts] == theirs["plain"]
        assert [found.decode(row, skip_special_tokens=True) for row in rows.input_ids] == theirs["decoded"]
        assert sorted(found.all_special_tokens) == theirs["special"]
        assert [found.image_token, found.image_token_id] == theirs["image"]
        assert [found.padding_side, found.truncation_side, len(found)] == theirs["sides"]
