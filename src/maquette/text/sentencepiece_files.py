"""SentencePiece's model files, read without that library, and made into the Rust library's tokenizer with equal ids.

Source: Kudo and Richardson 2018, "SentencePiece"; the layout is that of its `sentencepiece_model.proto`, a protocol
buffer. What it does to a text: normal forms of characters, extra spaces out, a space before the text, `▁` for spaces;
then the pieces, by Viterbi's algorithm over the scores of a unigram model, or by merging pairs, the best piece first.
"""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram

from maquette.errors import FileFormatError, MissingFileError
from maquette.storage.paths import user_path
from maquette.text.backend import ask

SPACE = "▁"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, PAIRS = 1, 2
NEVER = -1e9  # the score of a piece that no text becomes
# Field numbers of sentencepiece_model.proto.
PIECES, TRAINER, NORMALIZER = 1, 2, 3
MODEL_TYPE, SUFFIX, BYTE_FALLBACK = 3, 24, 35
SPECIAL_IDS = {"unk_token": (40, 0), "bos_token": (41, 1), "eos_token": (42, 2), "pad_token": (43, -1)}
CHARACTER_MAP, DUMMY_PREFIX, EXTRA_SPACES = 2, 3, 4


@dataclass(slots=True)
class SentencePieceModel:
    """What a model file says.

    Attributes:
        pieces: `(piece, score, type)` by id.
        model_type: unigram or pairs.
        byte_fallback: whether characters without a piece become their bytes.
        special: the ids of the special tokens there are.
        character_map: what characters become, in the form that the Rust library reads too; empty for nothing.
        dummy_prefix: whether a space is put before each text.
        keeps_spaces: whether spaces at the ends and several in a row are kept.
    """

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    special: dict[str, int] = field(default_factory=dict)
    character_map: bytes = b""
    dummy_prefix: bool = True
    keeps_spaces: bool = False

    def of_type(self, *kinds: int) -> list[str]:
        """Give the pieces of some types."""
        return [piece for piece, _, kind in self.pieces if kind in kinds]

    def special_tokens(self) -> dict[str, str]:
        """Give the special tokens by attribute."""
        return {name: self.pieces[index][0] for name, index in self.special.items() if index < len(self.pieces)}


def read_sentencepiece(path: str | os.PathLike[str]) -> SentencePieceModel:
    """Read a model file, such as `tokenizer.model` or `spiece.model`.

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: it is none of SentencePiece's, or of a kind that has no counterpart.
    """
    try:
        raw = user_path(path).read_bytes()
    except OSError as error:
        raise MissingFileError(f"The vocabulary {str(path)!r} cannot be read: {error.strerror}.") from None
    try:
        model = _read_model(raw)
    except (ValueError, IndexError, struct.error, TypeError, KeyError) as error:
        raise FileFormatError(f"{path} is no model of SentencePiece: {error}.") from None
    _check(model, raw, str(path))
    return model


def _read_model(raw: bytes) -> SentencePieceModel:
    model = SentencePieceModel()
    parts: dict[int, dict[int, Any]] = {TRAINER: {}, NORMALIZER: {}}
    for number, value in _fields(raw):
        if number == PIECES:
            piece = dict(_fields(value))
            score = struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0
            model.pieces.append((piece.get(1, b"").decode("utf-8"), score, piece.get(3, NORMAL)))
        elif number in parts:
            parts[number] = dict(_fields(value))
    trainer, normalizer = parts[TRAINER], parts[NORMALIZER]
    model.model_type = trainer.get(MODEL_TYPE, UNIGRAM)
    model.byte_fallback = bool(trainer.get(BYTE_FALLBACK, 0))
    ids = {name: _signed(trainer.get(number, default)) for name, (number, default) in SPECIAL_IDS.items()}
    model.special = {name: index for name, index in ids.items() if 0 <= index < len(model.pieces)}
    model.character_map = bytes(normalizer.get(CHARACTER_MAP, b""))
    model.dummy_prefix = bool(normalizer.get(DUMMY_PREFIX, 1))
    model.keeps_spaces = not normalizer.get(EXTRA_SPACES, 1)
    if trainer.get(SUFFIX, 0):
        raise ValueError("it puts spaces behind words (treat_whitespace_as_suffix), which has no counterpart")
    return model


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Give the fields of a message: numbers as such, everything else as bytes."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(raw, place)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, place = _varint(raw, place)
        if size is None or not number or place + size > len(raw):
            raise ValueError(f"there is no field at byte {place}")
        yield number, raw[place : place + size]
        place += size


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _check(model: SentencePieceModel, raw: bytes, place: str) -> None:
    if not model.pieces or "unk_token" not in model.special:
        raise FileFormatError(f"{place} is no model of SentencePiece: it has no pieces, or none for what is unknown.")
    if model.model_type not in (UNIGRAM, PAIRS):
        raise FileFormatError(f"{place} is a SentencePiece model of words or characters; only unigram and BPE load.")
    if len({piece for piece, _, _ in model.pieces}) < len(model.pieces):
        raise FileFormatError(f"{place} has a piece twice.")


# The Rust library's tokenizer


def make_sentencepiece_backend(model: SentencePieceModel, *, legacy: bool | None = None) -> Tokenizer:
    """Make the Rust library's tokenizer that gives the ids of SentencePiece.

    Args:
        legacy: False has the space before texts left out after special tokens in a text, and before texts that begin
            with one, as Transformers does where a file says so. SentencePiece knows no special tokens in texts.
    """
    prefix = "first" if model.dummy_prefix and legacy is False else "never"
    steps: list[Any] = [normalizers.Precompiled(model.character_map)] if model.character_map else []
    if not model.keeps_spaces:
        steps += [normalizers.Replace(Regex(rf"\A +|[ {SPACE}]+\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.dummy_prefix and prefix == "never":
        steps.append(normalizers.Prepend(SPACE))
    alone = not steps and prefix == "never"  # no step that a symbol, or the text behind it, would be changed by
    cut = bool(model.of_type(USER_DEFINED)) and not alone
    backend = Tokenizer(_make_unigram(model) if model.model_type == UNIGRAM else _make_pairs(model, whole=cut))
    if steps or alone:
        backend.normalizer = normalizers.Sequence(steps or [normalizers.Replace(" ", SPACE)])
    backend.pre_tokenizer = _make_cutter(model, prefix, cut=cut)
    if alone:
        backend.add_tokens([AddedToken(piece, normalized=True) for piece in model.of_type(USER_DEFINED)])
    ends: list[Any] = [decoders.ByteFallback()] if model.byte_fallback else []
    start: list[Any] = [decoders.Strip(" ", 1, 0)] if model.dummy_prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), *ends, decoders.Fuse(), *start])
    control = [AddedToken(piece, normalized=False, special=True) for piece in model.of_type(CONTROL)]
    backend.add_special_tokens(control)
    return backend


def _make_unigram(model: SentencePieceModel) -> Unigram:
    scores = {USER_DEFINED: 0.0}  # the best there is: such symbols are cut out of the text, and are one token each
    pieces = [(piece, score if kind == NORMAL else scores.get(kind, NEVER)) for piece, score, kind in model.pieces]
    return ask(lambda: Unigram(pieces, model.special["unk_token"], model.byte_fallback), FileFormatError)


def _make_pairs(model: SentencePieceModel, *, whole: bool) -> BPE:
    """Make the model of pairs; `whole` has it take what is cut out of the text as one piece, if it is one."""
    vocabulary = {piece: index for index, (piece, _, _) in enumerate(model.pieces)}
    options: Any = {"fuse_unk": True, "byte_fallback": model.byte_fallback, "ignore_merges": whole}
    unknown = model.pieces[model.special["unk_token"]][0]
    return ask(lambda: BPE(vocabulary, _find_merges(model), unk_token=unknown, **options), FileFormatError)


def _find_merges(model: SentencePieceModel) -> list[tuple[str, str]]:
    """Give every pair of pieces that makes up another, those of the best piece first."""
    parts = {piece: index for index, (piece, _, kind) in enumerate(model.pieces) if kind == NORMAL}
    merges = [
        (-score, index, cut, (piece[:cut], piece[cut:]))
        for index, (piece, score, kind) in enumerate(model.pieces)
        if kind == NORMAL
        for cut in range(1, len(piece))
        if piece[:cut] in parts and piece[cut:] in parts
    ]
    return [pair for *_, pair in sorted(merges)]


def _make_cutter(model: SentencePieceModel, prefix: str, *, cut: bool) -> Any:
    """Put `▁` for spaces, cut out the symbols that users defined, and cut at spaces where no piece goes across one."""
    steps: list[Any] = [pre_tokenizers.Metaspace(SPACE, prepend_scheme=prefix, split=False)]
    symbols = sorted((symbol.replace(" ", SPACE) for symbol in model.of_type(USER_DEFINED)), key=len, reverse=True)
    if cut:
        steps.append(pre_tokenizers.Split(Regex("|".join(map(re.escape, symbols))), "isolated"))
    if not any(SPACE in piece[1:] for piece in model.of_type(NORMAL)) and not any(SPACE in one for one in symbols):
        steps.append(pre_tokenizers.Split(SPACE, "merged_with_next"))
    return pre_tokenizers.Sequence(steps)
