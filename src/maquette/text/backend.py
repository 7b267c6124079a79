"""The Rust library's tokenizer: read with suspicion, asked without letting it panic, trained anew."""

import copy
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from tokenizers import AddedToken, Tokenizer, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from maquette.errors import FileFormatError, InputError, MaquetteError, SaveError, UnknownFieldError, did_you_mean
from maquette.storage.paths import user_path
from maquette.text.special_tokens import FLAGS
from maquette.text.templates import Part
from maquette.text.vocabulary_files import LARGEST_ID

Result = TypeVar("Result")

PROBES = ("a", "Zwei Wörter, 漢字 & ##x\u0301!", "")
TRAINERS = {
    "BPE": "BpeTrainer",
    "WordPiece": "WordPieceTrainer",
    "WordLevel": "WordLevelTrainer",
    "Unigram": "UnigramTrainer",
}
EXTRA_OPTIONS = {"UnigramTrainer": {"shrinking_factor", "unk_token", "max_piece_length", "n_sub_iterations"}}
PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
MARKS = (0x100000, 0xF0000)  # where the two planes for private use begin
BROKEN = "\ufffd"
_SURROGATES = re.compile("[\ud800-\udfff]")


def replace_surrogates(text: Any) -> Any:
    """Put U+FFFD for halves of surrogate pairs, which are no characters; in a text, or in a list or tuple of texts."""
    if isinstance(text, str):
        return _SURROGATES.sub(BROKEN, text)
    return None if text is None else type(text)(replace_surrogates(part) for part in text)


def ask(question: Callable[[], Result], error: Callable[[str], Exception] = InputError) -> Result:
    """Ask the Rust library something; what it raises, panics included, becomes an error of ours."""
    try:
        return question()
    except MaquetteError:
        raise
    except BaseException as problem:
        if not is_refusal(problem):
            raise
        raise error(_explain(problem)) from None


def is_refusal(problem: BaseException) -> bool:
    """Tell whether something raised is an error or a panic of the Rust library, which is no `Exception`."""
    return isinstance(problem, Exception) or type(problem).__name__ == "PanicException"


def _explain(problem: BaseException) -> str:
    if "Regex search error" in str(problem):
        return (
            f"A pattern of its normalizer, pre_tokenizer or decoder gave up on the text ({problem}). Patterns with a "
            "repetition inside of another, such as (x+x+)+y, take forever: write it without, or pass shorter texts"
        )
    return (
        f"the Rust library met what it does not foresee: {problem}"
        if not isinstance(problem, Exception)
        else str(problem)
    )


def copy_backend(backend: Tokenizer) -> Tokenizer:
    """Copy a tokenizer; one with parts written in Python, which the library cannot copy, is made anew of its parts."""
    try:
        return copy.deepcopy(backend)
    except Exception:
        fresh = without_added(backend)
    for index, token in sorted(backend.get_added_tokens_decoder().items()):
        (fresh.add_special_tokens if token.special else fresh.add_tokens)([token])
        if fresh.token_to_id(token.content) != index:
            raise InputError(
                f"A tokenizer with parts written in Python is made anew of its parts, and the added token "
                f"{token.content!r} gets the id {fresh.token_to_id(token.content)} instead of {index}. Add its tokens "
                "without gaps between their ids."
            )
    if backend.truncation:
        fresh.enable_truncation(**backend.truncation)
    if backend.padding:
        fresh.enable_padding(**backend.padding)
    return fresh


def without_added(backend: Tokenizer) -> Tokenizer:
    """Give a tokenizer of the same parts that knows no added tokens."""
    fresh = Tokenizer(backend.model)
    for part in PARTS:
        if (own := getattr(backend, part)) is not None:
            setattr(fresh, part, own)
    return fresh


def settings_in(backend: Tokenizer) -> dict[str, Any]:
    """Give the truncation and padding that a `tokenizer.json` was saved with, as settings of a tokenizer."""
    cut, padding = backend.truncation, backend.padding
    settings: dict[str, Any] = {"truncation_side": cut["direction"]} if cut else {}
    if padding:
        settings |= {"padding_side": padding["direction"], "pad_token_type_id": padding["pad_type_id"]}
        if backend.token_to_id(padding["pad_token"]) is not None:
            settings["pad_token"] = padding["pad_token"]
    return settings


def write_backend(backend: Tokenizer, *, pretty: bool = False) -> str:
    """Give the text of a `tokenizer.json`, without the truncation that a call set.

    Raises:
        SaveError: it has parts that are written in Python.
    """
    padding = backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        return ask(
            lambda: backend.to_str(pretty=pretty),
            lambda why: SaveError(
                f"This tokenizer cannot be saved or pickled: {why}. What is written in Python has no place in a "
                "tokenizer.json: take it out (tokenizer.backend_tokenizer.pre_tokenizer = …), and set it after loading."
            ),
        )
    finally:
        if padding:
            backend.enable_padding(**padding)


def decode_tokens(decoder: Any, tokens: Sequence[str], added: Mapping[str, bool]) -> str:
    """Give the text of tokens, in which added ones stand as they are written.

    Args:
        decoder: the library's; it would take the letters of added tokens for its own code of bytes or spaces.
        tokens: the tokens.
        added: the added tokens, and whether they lie beyond the model's own vocabulary. Those within may be in its code
            after all, and are taken as written only where the text would have broken characters otherwise.
    """

    def decode(tokens: Sequence[str]) -> str:
        return str(ask(lambda: decoder.decode(list(tokens))))

    kinds = [token for token in sorted(added.keys() & tokens) if decode([token]) != token]
    if not kinds:
        return decode(tokens)
    written = {place for place, token in enumerate(tokens) if token in kinds and added[token]}
    best = _decode_marked(decode, tokens, kinds, written)
    for place in (place for place, token in enumerate(tokens) if token in kinds and not added[token]):
        if BROKEN in best:
            other = _decode_marked(decode, tokens, kinds, written | {place})
            if other.count(BROKEN) < best.count(BROKEN):
                best, written = other, written | {place}
    return best


def _decode_marked(
    decode: Callable[[Sequence[str]], str], tokens: Sequence[str], kinds: Sequence[str], written: set[int]
) -> str:
    """Decode with marks in place of the tokens that stand as written, characters that the text itself has not."""
    for first in MARKS if written else ():
        marks = {token: chr(first + number) for number, token in enumerate(kinds)}
        text = decode([marks[token] if place in written else token for place, token in enumerate(tokens)])
        if sum(map(text.count, marks.values())) == len(written):
            return text.translate({ord(mark): token for token, mark in marks.items()})
    return decode(tokens)


def read_backend_file(file: str | os.PathLike[str]) -> Tokenizer:
    """Read a `tokenizer.json`, as `read_backend` does its text."""
    try:
        text = user_path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{file} is not text in UTF-8: {error}.") from None
    return read_backend(text, str(file))


def read_backend(text: str, place: str) -> Tokenizer:
    """Read the text of a `tokenizer.json`, and try it out.

    Raises:
        FileFormatError: it is no tokenizer, contradicts itself, or fails on plain text; the message says what.
    """

    def broken(problem: str) -> FileFormatError:
        return FileFormatError(f"{place} is no tokenizer that works: {problem.strip().rstrip('.')}. Save it again.")

    content = ask(lambda: json.loads(text), broken)
    for problem in ask(
        lambda: list(check_content(content)), lambda why: broken(f"its parts are not what they should be, {why}")
    ):
        raise broken(problem)
    backend = ask(lambda: Tokenizer.from_str(text), broken)
    padding, truncation = backend.padding, backend.truncation
    backend.no_padding()
    backend.no_truncation()
    for probe in PROBES:
        ask(lambda probe=probe: backend.decode(backend.encode(probe, probe).ids), broken)  # type: ignore[misc]
    if padding:
        backend.enable_padding(**padding)
    if truncation:
        ask(lambda: backend.enable_truncation(**truncation), broken)
    return backend


def check_content(content: Any) -> Iterable[str]:
    """Find what the Rust library would accept and stumble over later, or panic about."""
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        yield "it has no model, an object with the vocabulary"
        return
    model = content["model"]
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict | list):
        yield f"the model's vocab is {type(vocabulary).__name__}, not an object or a list"
        return
    tokens = set(vocabulary) if isinstance(vocabulary, dict) else {str(entry[0]) for entry in vocabulary if entry}
    if isinstance(vocabulary, dict):
        yield from _check_ids(vocabulary)
        yield from check_merges(model.get("merges"), tokens, model)
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(t, dict) and isinstance(t.get("content"), str) for t in added):
        yield "added_tokens is not a list of tokens with a content each"
        return
    if any(not token["content"] for token in added):
        yield "an added token is empty"
    known = tokens | {token["content"] for token in added}
    unknown = model.get("unk_token")
    if unknown is not None and unknown not in known:
        yield f"the unknown token {unknown!r} is not in the vocabulary"
    yield from _check_templates(content.get("post_processor"), known)


def _check_ids(vocabulary: Mapping[str, Any]) -> Iterable[str]:
    wrong = [
        (token, index)
        for token, index in vocabulary.items()
        if not isinstance(index, int) or not 0 <= index < LARGEST_ID
    ]
    if wrong:
        yield f"the token {wrong[0][0]!r} has the id {wrong[0][1]!r}, not one from 0 to {LARGEST_ID}"
    elif len(set(vocabulary.values())) < len(vocabulary):
        seen: dict[int, str] = {}
        for token, index in vocabulary.items():
            if index in seen:
                yield f"the tokens {seen[index]!r} and {token!r} share the id {index}"
                return
            seen[index] = token


def check_merges(merges: Any, tokens: set[str], model: Mapping[str, Any]) -> Iterable[str]:
    """Find what merges are no pairs, or are of tokens that are not there."""
    if merges is None:
        return
    if not isinstance(merges, list):
        yield "the model's merges are not a list"
        return
    prefix = model.get("continuing_subword_prefix") or ""
    for number, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            yield f"merge {number} is {merge!r:.60}, which is no pair of tokens"
            return
        if not parts[1].startswith(prefix):
            yield f"merge {number} continues with {parts[1]!r}, which lacks the prefix {prefix!r}"
            return
        missing = [part for part in (*parts, parts[0] + parts[1].removeprefix(prefix)) if part not in tokens]
        if missing:
            yield f"merge {number} is of {missing[0]!r}, which is not in the vocabulary"
            return


def _check_templates(processor: Any, known: set[str]) -> Iterable[str]:
    """Look for special tokens of a template that are defined nowhere, in nested processors too."""
    if not isinstance(processor, dict):
        return
    for inner in processor.get("processors") or []:
        yield from _check_templates(inner, known)
    if processor.get("type") != "TemplateProcessing":
        return
    defined = processor.get("special_tokens")
    if not isinstance(defined, dict):
        yield "the template's special_tokens are no object"
        return
    for name in ("single", "pair"):
        for part in processor.get(name) or []:
            special = part.get("SpecialToken") if isinstance(part, dict) else None
            if isinstance(special, dict) and special.get("id") not in defined:
                yield f"the {name} template has the token {special.get('id')!r}, which its special_tokens do not define"


def make_template(tokenizer: Any) -> TemplateProcessing:
    """Make the Rust library's counterpart of a tokenizer's `single_template` and `pair_template`."""
    forms: list[list[str]] = []
    ids: dict[str, int] = {}
    for template in (tokenizer.single_template, tokenizer.pair_template):
        parts: list[str] = []
        for name, _, kind in (part.partition(":") for part in template.split()):
            token = name if name[0] == "$" else getattr(tokenizer, name)
            if token is not None:
                parts.append(f"{token}:{kind or 0}")
                ids |= {token: getattr(tokenizer, f"{name}_id")} if name[0] != "$" else {}
        forms.append(parts)
    return ask(
        lambda: TemplateProcessing(single=forms[0], pair=forms[1], special_tokens=list(ids.items())),
        lambda why: InputError(f"The special tokens {list(ids)} make no template of the Rust library: {why}."),
    )


def read_template(backend: Tokenizer, *, pair: bool) -> list[Part]:
    """Find out where a tokenizer puts special tokens, by having it lay out a row of one-token texts."""
    one = _probe(backend)
    row = ask(lambda: backend.post_process(one, _probe(backend) if pair else None, True))
    parts: list[Part] = []
    for index, kind, special, sequence in zip(
        row.ids, row.type_ids, row.special_tokens_mask, row.sequence_ids, strict=True
    ):
        part = (index if special else ("$B" if sequence == 1 else "$A"), kind)
        if special or part not in parts:
            parts.append(part)
    return parts


def _probe(backend: Tokenizer) -> Any:
    for text in ("a", "0", "x y", *list(backend.get_vocab())[:100]):
        if (encoding := ask(partial(backend.encode, text, add_special_tokens=False))).ids:
            return encoding
    raise InputError("This tokenizer finds no token in any text.")


def train_backend(
    backend: Tokenizer,
    texts: Iterable[Any],
    vocab_size: int,
    *,
    length: int | None,
    renamed: Mapping[str, str],
    new_special_tokens: Iterable[Any],
    show_progress: bool,
    options: Mapping[str, Any],
) -> Tokenizer:
    """Learn a vocabulary from texts for a tokenizer that otherwise works as `backend` does."""
    content = json.loads(backend.to_str())
    model, processor = content["model"], content["post_processor"]
    added = content["added_tokens"]
    special = [_renamed(token, renamed) for token in added if token["special"]]
    more = [token if isinstance(token, AddedToken) else AddedToken(token, special=True) for token in new_special_tokens]
    if model.get("unk_token"):
        model["unk_token"] = renamed.get(model["unk_token"], model["unk_token"])
    unigram = model["type"] == "Unigram"
    model["vocab"] = [model["vocab"][model["unk_id"] or 0]] if unigram else {}
    if unigram:
        model["unk_id"] = 0
    elif "merges" in model:
        model["merges"] = []
    blank = {**content, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    fresh = Tokenizer.from_str(json.dumps(blank))
    chosen = {"vocab_size": vocab_size, "special_tokens": [*special, *more], "show_progress": show_progress}
    kind = getattr(trainers, TRAINERS[model["type"]])
    _check_trainer_options(kind, options)
    trainer = kind(**_trainer_options(content), **chosen, **options)
    fresh.train_from_iterator(texts, trainer=trainer, length=length)
    if processor is not None:
        trained = json.loads(fresh.to_str())
        trained["post_processor"] = _with_ids(processor, fresh, renamed)
        fresh = Tokenizer.from_str(json.dumps(trained))
    return fresh


def _renamed(token: Mapping[str, Any], renamed: Mapping[str, str]) -> AddedToken:
    content = renamed.get(token["content"], token["content"])
    return AddedToken(content, **{name: token[name] for name in FLAGS})


def _trainer_options(content: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the trainer has to know of the model: its affixes, and the alphabet where texts are bytes."""
    model, found = content["model"], {}
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name) is not None:
            found[name] = model[name]
    if model["type"] == "Unigram":
        found["unk_token"] = model["vocab"][0][0]
    if '"ByteLevel"' in json.dumps([content["pre_tokenizer"], content["normalizer"]]):
        found["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    return found


def _check_trainer_options(kind: type, options: Mapping[str, Any]) -> None:
    """Refuse what the trainer would print a line about and go on without."""
    known = {name for name in dir(kind) if not name.startswith("_")} | EXTRA_OPTIONS.get(kind.__name__, set())
    for name in options:
        if name not in known:
            raise UnknownFieldError(f"The library's {kind.__name__} takes no {name!r}.{did_you_mean(name, known)}")


def _with_ids(processor: Any, backend: Tokenizer, renamed: Mapping[str, str]) -> Any:
    """Give a post-processor with the new names and ids of its special tokens."""
    processor = copy.deepcopy(processor)
    for index, inner in enumerate(processor.get("processors") or []):
        processor["processors"][index] = _with_ids(inner, backend, renamed)

    def named(token: str) -> tuple[str, int]:
        name = renamed.get(token, token)
        index = backend.token_to_id(name)
        if index is None:
            raise InputError(
                f"The special token {name!r} of the tokenizer's template is not among those that were trained."
            )
        return name, index

    for part in ("sep", "cls"):
        if isinstance(processor.get(part), list):
            processor[part] = list(named(processor[part][0]))
    if processor.get("type") == "TemplateProcessing":
        pairs = [(named(token), entry) for token, entry in processor["special_tokens"].items()]
        processor["special_tokens"] = {n: {**e, "id": n, "ids": [i], "tokens": [n]} for (n, i), e in pairs}
        for part in (*processor["single"], *processor["pair"]):
            if "SpecialToken" in part:
                part["SpecialToken"]["id"] = named(part["SpecialToken"]["id"])[0]
    return processor
