"""What tests were skipped for want of, and how to get it: one line at the end of a run, and of `make test`.

python tests/support/skips.py FILE    prints the line for all runs that wrote to the file MAQUETTE_TEST_SKIPS names
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

# A word of the reason that a skipped test gives, what is missing then, and where it comes from.
SOURCES = [
    ("MAQUETTE_PEER_PYTHON", "Transformers", "`make peer`, then set MAQUETTE_PEER_PYTHON=.venv-peer/bin/python"),
    ("espeak-ng", "espeak-ng", "`apt-get install espeak-ng`"),
    ("chromium", "chromium", "`apt-get install chromium`"),
    ("guides", "the guides", "a folder ../shared/guides beside the checkout"),
    ("CUDA", "a GPU", "a machine with one, and torch built for CUDA"),
    ("could not import", "packages", "`make setup`"),
    ("timm", "timm", "`make setup`"),
]


def count(reasons: Iterable[str]) -> Counter[str]:
    """Count the skipped tests by what they lacked; those that were skipped for another reason lack nothing."""
    found = (next((what for word, what, _ in SOURCES if word in reason), "") for reason in reasons)
    return Counter(what for what in found if what)


def describe(counts: Counter[str]) -> str:
    """Put the counts into one line, the most frequent first."""
    if not counts:
        return "Nothing was skipped for want of anything."
    ways = {what: how for _, what, how in SOURCES}
    parts = [f"{number} for want of {what} (get it: {ways[what]})" for what, number in counts.most_common()]
    return f"Skipped: {'; '.join(parts)}."


def report(reasons: Iterable[str]) -> str:
    """Give the line of one run, and add its counts to the file of all runs, where one is named."""
    counts = count(reasons)
    if path := os.environ.get("MAQUETTE_TEST_SKIPS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(f"{what}\n" for what in counts.elements())
    return describe(counts)


if __name__ == "__main__":
    print(describe(Counter(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())))
