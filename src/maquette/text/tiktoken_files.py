"""tiktoken's vocabularies, such as Llama 3's `tokenizer.model`: a token's bytes in base64 and its rank on each line."""

import base64
import binascii
import os
from collections.abc import Mapping

from maquette.errors import FileFormatError, MissingFileError
from maquette.storage.paths import user_path
from maquette.text.byte_pairs import byte_characters


def is_tiktoken(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a vocabulary of tiktoken, by its first line."""
    try:
        with user_path(path).open("rb") as file:
            parts = file.readline(4096).split()
        return len(parts) == 2 and parts[1].isdigit() and bool(base64.b64decode(parts[0], validate=True))
    except (OSError, ValueError, binascii.Error):
        return False


def read_tiktoken(path: str | os.PathLike[str]) -> dict[bytes, int]:
    """Read a vocabulary.

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: a line is no token and rank (which), or comes twice.
    """
    try:
        lines = user_path(path).read_bytes().splitlines()
    except OSError as error:
        raise MissingFileError(f"The vocabulary {str(path)!r} cannot be read: {error.strerror}.") from None
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            raw = base64.b64decode(token, validate=True)
            if raw in ranks:
                raise ValueError
            ranks[raw] = int(rank)
        except ValueError:
            raise FileFormatError(
                f"{path}, line {number}: {line[:60]!r} is no token in base64 and its rank, or has a token twice."
            ) from None
    return ranks


def spell(ranks: Mapping[bytes, int]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Give the vocabulary and the merges of ranks, in the characters that stand for bytes.

    tiktoken joins any two neighbours that make up a token, the one of the lowest rank first. So every way to part a
    token in two is a merge.
    """
    characters = byte_characters()
    spelled = {raw: "".join(map(characters.__getitem__, raw)) for raw in ranks}
    merges = [
        (rank, cut, (spelled[raw[:cut]], spelled[raw[cut:]]))
        for raw, rank in ranks.items()
        for cut in range(1, len(raw))
        if raw[:cut] in ranks and raw[cut:] in ranks
    ]
    return {spelled[raw]: rank for raw, rank in ranks.items()}, [pair for *_, pair in sorted(merges)]
