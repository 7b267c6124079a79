"""Tokenizers of BART, T5, RoBERTa, BERT and ModernBERT give what the peer's give, on texts of many languages."""

import io
import json
from pathlib import Path

import pytest
import sentencepiece
from byte_level import TEXTS, train
from guides import FOLDER as GUIDES
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import maquette

# Lines of the guides where they lie beside the checkout: five languages, with code; what the byte-level texts leave out
# is U+0085, at which the peer cuts for SentencePiece, and SentencePiece does not.
LINES = [
    line
    for path in sorted(GUIDES.glob("*.txt"))
    for line in path.read_text(encoding="utf-8").splitlines()[5:200:30]
    if line.strip()
]
TEXTS_OF_ALL = [*(text.replace("\x85", "") for text in TEXTS if text.strip()), "x<mask>y [MASK] z </s>", *LINES]
CALLS = {
    "single": {},
    "pairs": {"pairs": True},
    "bare": {"add_special_tokens": False},
    "cut": {"truncation": True, "max_length": 9},
    "cut pairs": {"pairs": True, "truncation": "longest_first", "max_length": 12},
    "cut second": {"pairs": True, "truncation": "only_first", "max_length": 400},
    "padded": {"padding": True, "padding_side": "left", "truncation": True, "max_length": 20},
}
FAMILIES = ("bart", "bert", "modernbert", "roberta", "t5")
BOTH_KINDS = ("bart", "bert", "roberta")


def write_published(folder: Path) -> None:
    """Write vocabularies as they are published."""
    for name in FAMILIES:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps({"model_type": name}))
    for name in ("bart", "roberta"):
        write_bytes(folder / name, ["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"])
    letters = sorted({letter for text in TEXTS_OF_ALL for letter in text.lower() if not letter.isspace()})
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{one}" for one in letters),
        "modelo",
        "##ado",
    ]
    (folder / "bert" / "vocab.txt").write_text("\n".join(dict.fromkeys(words)) + "\n", encoding="utf-8")
    write_modernbert(folder / "modernbert")
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TEXTS_OF_ALL for line in text.splitlines() if line.strip()] * 3),
        model_writer=made, model_type="unigram", vocab_size=500, hard_vocab_limit=False, character_coverage=0.98,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "source.model").write_bytes(made.getvalue())
    maquette.T5Tokenizer(folder / "source.model").save_pretrained(folder / "t5")
    (folder / "source.model").unlink()


def write_bytes(folder: Path, first: list[str], last: list[str]) -> None:
    vocabulary, merges = train(None)
    tokens = [token for token in sorted(vocabulary, key=vocabulary.get) if token != "<|endoftext|>"]
    ids = {token: number for number, token in enumerate([*first, *tokens, *last])}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    library = Tokenizer(models.BPE(vocab=ids, merges=merges))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    library.add_special_tokens([*first, AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    library.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    library.save(str(folder / "tokenizer.json"))


def write_modernbert(folder: Path) -> None:
    """Write a `tokenizer.json` alone, whose class nobody names: composed letters, bytes, BERT's special tokens."""
    vocabulary, merges = train(None)
    library = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    library.normalizer, library.decoder = normalizers.NFC(), decoders.ByteLevel()
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    library.add_special_tokens([*special, AddedToken("[MASK]", lstrip=True, special=True, normalized=False)])
    ends = [(token, library.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    library.save(str(folder / "tokenizer.json"))
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192, **named}
    names = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_input_names": names}))


@pytest.fixture(scope="module")
def exchange(tmp_path_factory, run_peer):
    folder = tmp_path_factory.mktemp("tokenizers")
    write_published(folder / "published")
    (folder / "texts.json").write_text(json.dumps(TEXTS_OF_ALL), encoding="utf-8")
    (folder / "calls.json").write_text(json.dumps(CALLS))
    for name in FAMILIES:
        tokenizer = maquette.AutoTokenizer.from_pretrained(folder / "published" / name, use_fast=name != "bart")
        tokenizer.save_pretrained(folder / "ours" / name)
    run_peer(Path(__file__).parent / "peer_tokenizers.py", folder)
    return folder


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_texts_are_tokenized_as_the_peer_does(exchange, name, fast):
    """From what is published, and from what the peer saves of it; and the peer reads what we save."""
    if not fast and name not in BOTH_KINDS:
        pytest.skip("there is one kind only")
    expected = json.loads((exchange / "found.json").read_text(encoding="utf-8"))[name]
    for place in ("published", "theirs"):
        tokenizer = maquette.AutoTokenizer.from_pretrained(exchange / place / name, use_fast=fast)
        assert tokenizer.is_fast is fast
        for call, options in CALLS.items():
            more = dict(options)
            pairs = [TEXTS_OF_ALL[::-1]] if more.pop("pairs", False) else []
            found = dict(tokenizer(TEXTS_OF_ALL, *pairs, return_offsets_mapping=fast, **more))
            wanted = expected[call]
            if name == "t5":  # there, the peer leaves the space out of where a word is from
                found.pop("offset_mapping")
            for column in found.keys() & wanted.keys():
                rows = json.loads(json.dumps(found[column]))
                for text, one, other in zip(TEXTS_OF_ALL, rows, wanted[column], strict=True):
                    assert one == other, (place, call, column, text)
            assert found.keys() - {"offset_mapping"} == wanted.keys() - {"offset_mapping"}, (place, call)
        ids = tokenizer(TEXTS_OF_ALL).input_ids
        assert tokenizer.batch_decode(ids) == expected["decoded"], place
        assert tokenizer.batch_decode(ids, skip_special_tokens=True) == expected["tidied"], place
        assert expected["special"].items() <= tokenizer.special_tokens_map.items(), place
    assert expected["ours"] == expected["single"]["input_ids"]


def test_targets_are_labels(exchange):
    """As scripts for encoders with decoders ask: beside the texts, or by themselves."""
    tokenizer = maquette.AutoTokenizer.from_pretrained(exchange / "published" / "t5")
    texts, said = ["the argument", "parser"], ["a", "b c"]
    both = tokenizer(texts, text_target=said, truncation=True, max_length=6)
    assert both["input_ids"] == tokenizer(texts, truncation=True, max_length=6)["input_ids"]
    assert both["labels"] == tokenizer(said).input_ids == tokenizer(text_target=said).input_ids
    assert tokenizer("the", text_target="a", return_tensors="np")["labels"].shape[0] == 1
