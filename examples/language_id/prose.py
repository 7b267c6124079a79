"""From text files to sentences with their language, and the split into those to learn from and those held out."""

import random
import re
from pathlib import Path
from typing import NamedTuple

# Guides about building models, where they lie beside the checkout. Files of other folders are named by language.
GUIDES = Path(__file__).resolve().parents[3] / "shared" / "guides"
GUIDE_LANGUAGES = {"000": "English", "001": "Japanese", "002": "Portuguese", "003": "English", "004": "Spanish"}

NO_PROSE = [
    r"<!--.*?-->",  # licences and notes to editors
    r"^[ >]*```.*?^[ >]*```[^\n]*$",  # code
    r"^[ ]*#.*?$",  # headings: short, and some are left in English
    r"^[ ]*\|.*?$",  # tables
    r"^[ >]*\[!\w+\]",  # "> [!TIP]"
    r"<[^<>]*>",  # other tags
]
LINK = r"!?\[([^\]]*)\]\([^)]*\)"
SENTENCE_END = r"(?<=[.!?:]) +|(?<=[。！？：])"
MINIMUM = 20  # characters; what is shorter is mostly names


class Sentence(NamedTuple):
    """A sentence, and the language that it is in."""

    text: str
    language: str


class DataError(Exception):
    """There is nothing to learn from; the message says what to bring."""


def read_sentences(folder: Path) -> list[Sentence]:
    """Give the sentences of a folder's text files, in a fixed order.

    Of sentences that differ only in names of code the first is kept, and none where they stand in two languages' files.

    Raises:
        DataError: no folder, or fewer than two languages in it.
    """
    alike: dict[str, list[Sentence]] = {}
    for path in sorted(folder.glob("*.txt")):
        for text in find_prose(path.read_text(encoding="utf-8")):
            alike.setdefault(key_of(text), []).append(Sentence(text, language_of(path)))
    sentences = [same[0] for same in alike.values() if len({sentence.language for sentence in same}) == 1]
    if len({sentence.language for sentence in sentences}) < 2:
        found = "is not there" if not folder.is_dir() else "has no sentences in two languages"
        raise DataError(
            f"There is no text to learn from: {folder} {found}. Pass --data FOLDER, a folder of text files in UTF-8 "
            "that are named by their languages: French.txt, German.txt, German.2.txt."
        )
    return sentences


def key_of(text: str) -> str:
    """Give a sentence's letters without `code` and names like ViTModel or num_labels; equal keys mean equal prose."""
    text = re.sub(r"`[^`]*`", "", text.replace("\\_", "_"))
    text = re.sub(r"[A-Za-z0-9]*(?:[A-Za-z0-9][A-Z_]|_)[A-Za-z0-9_]*", "", text)
    return "".join(re.findall(r"\w", text)).lower()


def language_of(path: Path) -> str:
    """Give the start of a file's name, up to a dot; the guides have numbers instead."""
    return GUIDE_LANGUAGES.get(path.name[:3]) or path.name.partition(".")[0]


def find_prose(text: str) -> list[str]:
    """Give the sentences of a Markdown text, without code, tables, headings and notes to editors."""
    text = repair(text)
    for pattern in NO_PROSE:
        text = re.sub(pattern, "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(LINK, r"\1", text)
    lines = (re.sub(r"^[ >]*([-*]|\d+\.)? +", "", line) for line in text.splitlines())
    sentences = (" ".join(part.split()) for line in lines for part in re.split(SENTENCE_END, line))
    return [sentence for sentence in sentences if len(sentence) >= MINIMUM]


def repair(text: str) -> str:
    """Undo what reading UTF-8 as a Western code page did ("lingÃ¼Ã­stica"), wherever going back gives UTF-8."""

    def go_back(found: re.Match[str]) -> str:
        try:
            return b"".join(map(byte_of, found[0])).decode()
        except UnicodeError:
            return found[0]

    return re.sub(r"[^\x00-\x7f]+", go_back, text)


def byte_of(character: str) -> bytes:
    for code_page in ("latin-1", "cp1252"):
        if encoded := character.encode(code_page, errors="ignore"):
            return encoded
    return character.encode("cp1254")


def split(sentences: list[Sentence], *, share: float) -> tuple[list[Sentence], list[Sentence]]:
    """Hold out a share of each language's sentences, the same ones every time."""
    kept, held_out = [], []
    for language in sorted({sentence.language for sentence in sentences}):
        own = [sentence for sentence in sentences if sentence.language == language]
        random.Random(0).shuffle(own)  # noqa: S311 - a split, not a secret
        count = max(1, round(share * len(own)))
        held_out += own[:count]
        kept += own[count:]
    return kept, held_out
