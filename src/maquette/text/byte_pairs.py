"""Byte pairs: the ids of texts, looked up word by word.

Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", over bytes as in Radford
et al. 2019, "Language Models are Unsupervised Multitask Learners". The patterns that cut texts never put a letter and
the space behind it into one token, so what lies between single spaces has ids of its own, whatever is around it.
Natural text repeats such words: each is cut up once, by the Rust library, and its ids are kept.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from maquette.errors import FileFormatError
from maquette.text.backend import ask, is_refusal, replace_surrogates

# How texts are cut before pairs are merged, by the models that brought the pattern.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_PATTERN = _WORDS + r"\p{N}{1,3}" + _REST
QWEN2_PATTERN = _WORDS + r"\p{N}" + _REST
CUT_AT_SPACES = {GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN}

END = "\0"  # stands before each text
WORDS_KEPT = 1 << 20
LONGEST_KEPT = 128  # characters of a word
_BLANKS = "\t\n\x0b\x0c\r "
_WIDE_BLANKS = (
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_BOUNDARY = re.compile(f"(?<=\\S) |(?={END})")

Ids = list[int]


def byte_characters() -> str:
    """Give the character that stands for each byte in a vocabulary: itself where it can be seen, else one above 255."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return "".join(chr(byte if byte in seen else next(hidden)) for byte in range(256))


BYTES = {character: byte for byte, character in enumerate(byte_characters())}


def make_backend(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    pattern: str,
    normal_form: str | None = None,
    ignore_merges: bool = False,
    unk_token: str | None = None,
    suffix: str | None = None,
) -> Tokenizer:
    """Make the Rust library's tokenizer of a vocabulary and the merges, the first of which come first.

    Args:
        pattern: what texts are cut into before pairs are merged.
        normal_form: "NFC" or the like, where texts are brought to one.
        ignore_merges: take a word that is in the vocabulary whole.
        unk_token: stands for bytes that the vocabulary lacks; these are left out without it.
        suffix: marks the end of a word.
    """
    lacking = [one for one in BYTES if one not in vocabulary or one + (suffix or "") not in vocabulary]
    unknown = unk_token if lacking and unk_token in vocabulary else None
    ends: Any = {} if suffix is None else {"end_of_word_suffix": suffix}
    model = ask(
        lambda: BPE(dict(vocabulary), list(merges), ignore_merges=ignore_merges, unk_token=unknown, **ends),
        lambda why: FileFormatError(f"The merges do not go with the vocabulary: {why}."),
    )
    backend = Tokenizer(model)
    if normal_form:
        backend.normalizer = getattr(normalizers, normal_form)()
    if pattern == GPT2_PATTERN:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([cut, spell])
    backend.decoder = decoders.ByteLevel()
    return backend


def parts_of(pre_tokenizer: Any) -> list[Any]:
    """Give the settings of what a `pre_tokenizer` does, step by step, as `tokenizer.json` writes them."""
    if pre_tokenizer is None:
        return []
    state = json.loads(pre_tokenizer.__getstate__())
    return list(state["pretokenizers"]) if state["type"] == "Sequence" else [state]


def settle_prefix_space(backend: Tokenizer, wanted: bool | None) -> bool:
    """Have a byte-level tokenizer put a space before texts or not; None leaves it as it is. Gives what it does."""
    steps = parts_of(backend.pre_tokenizer)
    there = any(step.get("add_prefix_space") for step in steps)
    if wanted is None or wanted == there:
        return there
    changed = [step | {"add_prefix_space": wanted} if step["type"] == "ByteLevel" else step for step in steps]
    made = pre_tokenizers.Sequence([])
    made.__setstate__(json.dumps({"type": "Sequence", "pretokenizers": changed}).encode())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=wanted) if len(steps) == 1 else made
    return wanted


def is_byte_level(backend: Tokenizer) -> bool:
    """Tell whether a tokenizer merges pairs of bytes."""
    steps = parts_of(backend.pre_tokenizer)
    return isinstance(backend.model, BPE) and any(step["type"] == "ByteLevel" for step in steps)


def cuts_at_spaces(backend: Tokenizer) -> bool:
    """Tell whether the words between spaces are known to have ids of their own in this tokenizer."""
    steps = parts_of(backend.pre_tokenizer)
    if not steps or steps[-1]["type"] != "ByteLevel" or backend.model.dropout:
        return False
    if len(steps) == 1:
        return bool(steps[0]["use_regex"])
    first, last = steps[0], steps[-1]
    return (
        len(steps) == 2
        and first["type"] == "Split"
        and first["pattern"].get("Regex") in CUT_AT_SPACES
        and (first["behavior"], first["invert"], last["use_regex"]) == ("Isolated", False, False)
    )


class ByteDecoder:
    """Turns tokens back into text, as the Rust library's decoder does, and treats bytes that are no UTF-8 as asked.

    Args:
        errors: "replace", "ignore" or "strict".
    """

    def __init__(self, errors: str) -> None:
        self.errors = errors

    def decode(self, tokens: Sequence[str]) -> str:
        """Give the text; a token with characters that stand for no byte is taken as written."""
        try:
            raw = bytes(map(BYTES.__getitem__, "".join(tokens)))
        except KeyError:
            raw = b"".join(map(bytes_of, tokens))
        return raw.decode("utf-8", self.errors)


def bytes_of(token: str) -> bytes:
    """Give the bytes that a token stands for; one with other characters is taken as written."""
    try:
        return bytes(map(BYTES.__getitem__, token))
    except KeyError:
        return token.encode("utf-8")


class BytePairs(dict[str, tuple[int, ...]]):
    """Maps words to the ids of their pieces; a word is cut up when it first occurs.

    A word is what follows a single space, further spaces before it included. The first word of a text follows `END`
    instead; its ids follow -1, by which the ids of texts are told apart.

    Args:
        backend: cuts up what is new; what it knows of added tokens, templates and normal forms is left out.
    """

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = Tokenizer(backend.model)
        if backend.pre_tokenizer is not None:
            self.backend.pre_tokenizer = backend.pre_tokenizer
        self.cuts = cuts_at_spaces(backend)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Give the ids of each text."""
        if not self.cuts or not texts:
            return self._ask(texts)
        joined = END + END.join(texts)
        if joined.count(END) == len(texts):
            return list(_part(self._look_up(_cut(joined))))
        clean = iter(self.encode([text for text in texts if END not in text]))
        odd = iter(self._ask([text for text in texts if END in text]))
        return [next(odd if END in text else clean) for text in texts]

    def _look_up(self, words: list[str]) -> Ids:
        try:
            return list(chain.from_iterable(map(self.__getitem__, words)))
        except KeyError:
            return list(chain.from_iterable(map(self._learn({*words}).__getitem__, words)))

    def _learn(self, words: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Give the ids of words, and keep those that were new."""
        found = {word: self.get(word) for word in words}
        new = [word for word, ids in found.items() if ids is None]
        rows = self._ask([word[1:] if word[:1] == END else f" {word}" for word in new])
        fresh = {word: (-1, *row) if word[:1] == END else tuple(row) for word, row in zip(new, rows, strict=True)}
        if len(self) > WORDS_KEPT:
            self.clear()
        self.update((word, ids) for word, ids in fresh.items() if len(word) <= LONGEST_KEPT)
        return {word: ids for word, ids in found.items() if ids is not None} | fresh

    def _ask(self, texts: Sequence[str]) -> list[Ids]:
        encode = partial(self.backend.encode_batch_fast, add_special_tokens=False)
        try:
            rows = encode(list(texts))
        except BaseException as problem:
            if not is_refusal(problem):
                raise
            rows = ask(lambda: encode(list(map(replace_surrogates, texts))))
        return [row.ids for row in rows]


def _cut(joined: str) -> list[str]:
    """Cut texts into words at each space that follows no other blank, which none of the patterns goes across."""
    blanks = _BLANKS if joined.isascii() else _BLANKS + _WIDE_BLANKS
    if any(blank in joined and f"{blank} " in joined for blank in blanks):
        return _BOUNDARY.split(joined)[1:]
    return joined.replace(END, f" {END}").split(" ")[1:]


def _part(flat: Ids) -> Iterable[Ids]:
    """Part the ids of all texts at the -1 before each."""
    start, count = 1, flat.count(-1)
    for _ in range(count - 1):
        stop = flat.index(-1, start)
        yield flat[start:stop]
        start = stop + 1
    if count:
        yield flat[start:]
