"""What guides 000, 001, 002 and 004 say of image processors runs as written and prints what they show."""

import json
from pathlib import Path

import pytest
from guides import prompts

SESSION = """
import contextlib, io, json, sys, warnings
from pathlib import Path
namespace, warned = {}, []
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for block in json.loads(Path("blocks.json").read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block["code"], "guide", "exec"), namespace)
        found = [line for line in printed.getvalue().splitlines() if line]
        assert found == block["shows"].splitlines(), (block["code"], found)
assert not {"torch", "tensorflow", "jax", "PIL"} & set(sys.modules)
print("ran", [(each.category.__name__, str(each.message).split()[0], each.filename) for each in warned])
"""
OLD = "ViTFeatureExtractor"


@pytest.mark.parametrize(("number", "name"), [("000", "ViTImageProcessor"), ("001", "ViTImageProcessor")])
def test_image_processors(number: str, name: str, tmp_path: Path, run_fresh) -> None:
    assert run_blocks(number, name, tmp_path, run_fresh) == "ran []\n"


@pytest.mark.parametrize("number", ["002", "004"])
def test_feature_extractors_of_images_warn_once(number: str, tmp_path: Path, run_fresh) -> None:
    printed = run_blocks(number, OLD, tmp_path, run_fresh)
    assert printed == f"ran [('FutureWarning', '{OLD}', 'guide')]\n"


def run_blocks(number: str, name: str, folder: Path, run_fresh) -> str:
    blocks = [block for block in prompts(number, until="no such heading") if "ViT" in block["code"]]
    assert [name in block["code"] for block in blocks] == [True, True]
    assert all(block["shows"].startswith(f"{name} {{") for block in blocks)
    (folder / "blocks.json").write_text(json.dumps(blocks), encoding="utf-8")
    return run_fresh(SESSION)
