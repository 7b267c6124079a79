"""Every snippet of the README and the documentation runs, in order, as a reader would run it."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_A_HUB = {"sharing.md"}  # pages that push, as a user "ada" who is logged in
# The client of the Hub calls its own HTTP library in a way that this deprecates; TensorFlow's tensors, numpy.
START = """
import sys, warnings
sys.path.insert(0, ".")
warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
"""
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def snippets(page: Path) -> list[tuple[str, str, str]]:
    """Give the fenced blocks of a page: language, what stands behind it (`file=name.py`), and content."""
    return [(lang, rest.strip(), body) for lang, rest, body in FENCE.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_snippets_run(page: Path, tmp_path: Path, run_fresh) -> None:
    """`python file=…` is written to that file, `python fresh` begins a new process, others go on in the last one."""
    scripts = [[START]]
    for language, rest, body in snippets(page):
        if language == "python" and rest.startswith("file="):
            target = tmp_path / rest.removeprefix("file=")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(body, encoding="utf-8")
        elif language == "python" and rest == "fresh":
            scripts.append([START, body])
        elif language == "python" and rest != "peft":  # which the peer's environment has: see below
            assert not rest, f"{page.name}: unknown word behind python: {rest!r}"
            scripts[-1].append(body)
    with LoopbackHub() as hub:
        hub.add_account("ada", "hf_ada")
        env = {**hub.environ(tmp_path / "hub"), "HF_TOKEN": "hf_ada"} if page.name in WITH_A_HUB else {}
        for script in scripts:
            if script[1:]:
                run_fresh("\n".join(script), env={"PYTHONDONTWRITEBYTECODE": "1", **env})


def test_snippets_with_peft_run_in_the_peers_environment(tmp_path: Path, peer_python: str) -> None:
    """`python peft` blocks go on in the page's first process, with maquette from its source."""
    script: list[str] = [START]
    for language, rest, body in snippets(ROOT / "docs" / "fine_tuning.md"):
        if rest.startswith("file="):
            (tmp_path / rest.removeprefix("file=")).write_text(body, encoding="utf-8")
        elif language == "python" and rest in ("", "peft"):
            script.append(body)
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [peer_python, "-c", "\n".join(script)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(FENCE, "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {name for page in PAGES for _, _, body in snippets(page) for name in re.findall(r"^make (\w+)", body, re.M)}
    assert {"demo", "test"} <= named <= targets


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name not in index and page.name != "README.md"
    ]
    assert missing == []


def test_the_pages_speak_of_the_project_alone() -> None:
    """No machine's paths in anything that is published."""
    here = os.sep + os.path.join("work", "main")
    for page in PAGES:
        assert here not in page.read_text(encoding="utf-8")
