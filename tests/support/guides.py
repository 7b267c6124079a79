"""The guides that maquette implements: their code blocks, in order, with our name for the peer's."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "guides"


def blocks(number: str) -> list[str]:
    """Give the Python blocks of a guide as written, `maquette` for `transformers`."""
    found = sorted(FOLDER.glob(f"{number}_*.txt"))
    if not found:
        pytest.skip("the guides lie beside the checkout, in ../shared/guides, and are not there")
    text = found[0].read_text(encoding="utf-8")
    code = re.findall(r"^```py(?:thon)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [block.replace("from transformers import", "from maquette import") for block in code]


def prompts(number: str, *, until: str) -> list[dict[str, str]]:
    """Give a guide's interactive blocks up to a heading: code, what the guide shows printed, and the block as it is."""
    found = sorted(FOLDER.glob(f"{number}_*.txt"))
    if not found:
        pytest.skip("the guides lie beside the checkout, in ../shared/guides, and are not there")
    text = re.split(rf"^## .*(?:{until}).*$", found[0].read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
    raws = re.findall(r"^```(?:py|python)?\n(>>> .*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    blocks = []
    for raw in raws:
        lines = raw.replace("from transformers import", "from maquette import").splitlines()
        code = [line[4:] for line in lines if line.startswith((">>> ", "... "))]
        shows = [line for line in lines if line and not line.startswith((">>>", "..."))]
        blocks.append({"code": "\n".join(code) + "\n", "shows": "\n".join(shows), "raw": raw})
    return blocks
