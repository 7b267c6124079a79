"""From text files to lines of prose with their language, and the split into lines to learn from and lines held out."""

import random
import re
from pathlib import Path
from typing import NamedTuple

# Five guides about one topic; where they are, they lie beside the checkout. Other folders name languages in file names.
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
MINIMUM = 20  # characters; shorter lines are names and captions


class Sentence(NamedTuple):
    """A sentence, and the language that it is in."""

    text: str
    language: str


class DataError(Exception):
    """There is nothing to learn from; the message says what to bring."""


def read_sentences(folder: Path) -> list[Sentence]:
    """Give each line of prose in a folder's text files once, in a fixed order; lines in two languages are left out.

    Raises:
        DataError: no folder, or fewer than two languages in it.
    """
    languages: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.txt")):
        for text in find_prose(path.read_text(encoding="utf-8")):
            languages.setdefault(text, set()).add(language_of(path))
    lines = [Sentence(text, *names) for text, names in languages.items() if len(names) == 1]
    if len({line.language for line in lines}) < 2:
        found = "is not there" if not folder.is_dir() else "has no prose in two languages"
        raise DataError(
            f"There is no text to learn from: {folder} {found}. Pass --data FOLDER, a folder of text files in UTF-8 "
            "that are named by their languages: French.txt, German.txt, German.2.txt."
        )
    return lines


def language_of(path: Path) -> str:
    """Give the start of a file's name, up to a dot; the guides have numbers instead."""
    return GUIDE_LANGUAGES.get(path.name[:3]) or path.name.partition(".")[0]


def find_prose(text: str) -> list[str]:
    """Give the lines of a Markdown text that people would read aloud."""
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


def split(lines: list[Sentence], share: float) -> tuple[list[Sentence], list[Sentence]]:
    """Hold out a share of each language's lines, the same ones every time."""
    kept, held_out = [], []
    for language in sorted({line.language for line in lines}):
        own = [line for line in lines if line.language == language]
        random.Random(0).shuffle(own)  # noqa: S311 - a split, not a secret
        count = max(1, round(share * len(own)))
        held_out += own[:count]
        kept += own[count:]
    return kept, held_out
