"""The guides that maquette implements: their code blocks, in order, with our name for the peer's."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "guides"


def blocks(number: str) -> list[str]:
    """Give the Python blocks of a guide as written, `maquette` for `transformers`; skip the test where it is not there."""
    found = sorted(FOLDER.glob(f"{number}_*.txt"))
    if not found:
        pytest.skip("the guides lie beside the checkout, in ../shared/guides, and are not there")
    text = found[0].read_text(encoding="utf-8")
    code = re.findall(r"^```py(?:thon)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [block.replace("from transformers import", "from maquette import") for block in code]
