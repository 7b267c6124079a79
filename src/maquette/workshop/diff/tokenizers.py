"""The tokenizers of two models: special tokens, vocabularies, settings, and ids of a few texts."""

import itertools
from typing import Any

import maquette
from maquette.errors import MaquetteError, UntrustedCodeError
from maquette.hub.sources import Source

FILES = frozenset(
    ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
)
TEXTS = (
    "Hello, world!",
    "The quick brown fox jumps over 13 lazy dogs.",
    "naïve café, 東京, 🙂",
    "  two  spaces\nx = {1: 'a'}",
)
SETTINGS = ("model_max_length", "padding_side", "truncation_side", "chat_template")
LONG = 60  # letters; longer settings are not shown


def compare_tokenizers(one: Source, other: Source, trust: bool | str | None, notes: list[str]) -> list[str]:
    """Say in what two sources' tokenizers differ, in words; what could not be looked at goes to the notes."""
    has = [bool(FILES & {*source.names()}) for source in (one, other)]
    if has == [False, False]:
        return []
    if not all(has):
        return [f"Only the {'first' if has[0] else 'second'} has a tokenizer."]
    try:
        auto: Any = maquette.AutoTokenizer
        mine, theirs = (auto.from_pretrained(source.label, trust_remote_code=trust) for source in (one, other))
    except UntrustedCodeError as error:
        notes.append(f"Tokenizers were not compared, as none of their code ran: {error}")
        return []
    except MaquetteError as error:
        notes.append(f"Tokenizers were not compared: {error}")
        return []
    return [
        *_compare_specials(mine, theirs),
        *_compare_vocabularies(mine, theirs),
        *_compare_settings(mine, theirs),
        *_compare_ids(mine, theirs),
    ]


def _compare_specials(mine: Any, theirs: Any) -> list[str]:
    one, other = mine.special_tokens_map, theirs.special_tokens_map
    names = [*one, *(name for name in other if name not in one)]
    return [f"{n}: {one.get(n)!r} and {other.get(n)!r}" for n in names if str(one.get(n)) != str(other.get(n))]


def _compare_settings(mine: Any, theirs: Any) -> list[str]:
    found = []
    for name in SETTINGS:
        one, other = (getattr(tokenizer, name, None) for tokenizer in (mine, theirs))
        if one != other:
            is_long = max(len(str(one)), len(str(other))) > LONG
            found.append(f"{name}: another one" if is_long else f"{name}: {one!r} and {other!r}")
    return found


def _compare_vocabularies(mine: Any, theirs: Any) -> list[str]:
    one, other = mine.get_vocab(), theirs.get_vocab()
    found = []
    for name, extra in (("first", one.keys() - other.keys()), ("second", other.keys() - one.keys())):
        if extra:
            shown = ", ".join(map(repr, sorted(extra)[:5]))
            found.append(f"{len(extra):,} tokens are in the {name} only: {shown}{', …' if len(extra) > 5 else ''}")
    if moved := [token for token in one if token in other and one[token] != other[token]]:
        token = min(moved, key=lambda each: int(one[each]))
        found.append(f"{len(moved):,} tokens have other ids, {token!r} for one: {one[token]} and {other[token]}")
    return found


def _compare_ids(mine: Any, theirs: Any) -> list[str]:
    found = []
    for text in TEXTS:
        one, other = _ids_of(mine, text), _ids_of(theirs, text)
        if one == other:
            continue
        if isinstance(one, str) or isinstance(other, str):
            said = [each if isinstance(each, str) else f"{len(each)} tokens" for each in (one, other)]
            found.append(f"{text!r}: {said[0]}; and {said[1]}")
            continue
        pairs = enumerate(itertools.zip_longest(one, other))
        place = next(number for number, (a, b) in pairs if a != b)
        ends = f"{len(one)} and {len(other)} tokens, other ones from place {place} on"
        found.append(f"{text!r} has other ids: {ends}")
    return found


def _ids_of(tokenizer: Any, text: str) -> list[int] | str:
    """Give the ids of a text, or what the tokenizer says where it takes none such."""
    try:
        return [int(each) for each in tokenizer(text)["input_ids"]]
    except Exception as error:  # of a tokenizer that other people wrote
        return f"not taken, {type(error).__name__}: {error}"
