"""The documentation as a site: built from nothing without a warning, whole by itself, and opened in a browser."""

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urldefrag

import pytest
from headless_page import CHROMIUM, OPTIONS

import maquette

ROOT = Path(__file__).parents[2]
LINK = re.compile(r'(?<= )(?:href|src)="([^"]*)"')
IDS = re.compile(r'(?<= )(?:id|name)="([^"]+)"')


@functools.cache
def making(file: str = "site") -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"making_{file}", ROOT / "docs" / "making" / f"{file}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(target)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # what the theme says of its own future
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_has_a_row_in_the_index() -> None:
    rows = [f"| [title]({name}) | what it tells |" for name in making().missing_from_index()]
    assert rows == [], "the index, docs/README.md, makes the navigation: add these rows to the tables they belong to"


def test_pictures_are_what_their_script_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = making("pictures")
    monkeypatch.setattr(pictures, "FOLDER", tmp_path)
    pictures.draw_all()
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    kept = {name: (ROOT / "docs" / "images" / name).read_text(encoding="utf-8") for name in drawn}
    assert len(drawn) == 4 and drawn == kept


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    names = making().public_names()
    assert set(names) == set(dir(maquette))
    missing = []
    for name, module in names.items():
        text = (site / "reference" / f"{making().group_of(module)}.html").read_text(encoding="utf-8")
        if f'id="{module}.{name}"' not in text and f'id="{name}"' not in text:
            missing.append(f"{module}.{name}")
    assert missing == []


def test_the_reference_of_a_base_has_the_methods_of_its_mixins(site: Path) -> None:
    text = (site / "reference" / "models.html").read_text(encoding="utf-8")
    for method in ("from_pretrained", "save_pretrained", "generate", "push_to_hub", "resize_token_embeddings"):
        assert f'id="maquette.modeling.torch.PreTrainedModel.{method}"' in text
    assert making().WITH_INHERITED.issubset(making().public_names())


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    anchors = {path: set(IDS.findall(text)) for path, text in pages.items()}
    lost = []
    for path, text in pages.items():
        for link in set(LINK.findall(text)):
            place, anchor = urldefrag(link.partition("?")[0])
            if path.name == "404.html" or "://" in link or link.startswith(("data:", "mailto:")):
                continue  # the 404 page's links begin at the root of wherever the site is served
            target = (path.parent / unquote(place)).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and unquote(anchor) not in anchors.get(target, set())):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 60 and lost == []


def test_a_page_links_the_first_mention_of_a_name_to_the_reference(site: Path) -> None:
    text = (site / "training.html").read_text(encoding="utf-8")
    assert text.count('reference/training.html#maquette.training.trainer.Trainer"><code>') == 1
    assert "<code>Trainer</code>" in text.replace('"><code>Trainer</code>', "", 1)  # further ones stay as they are


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|link|img|iframe)\b[^>]*https?://[^>]*>", path.read_text(encoding="utf-8"))
        assert fetched == [], path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", path.read_text(encoding="utf-8")), path.name


PROBE = """<!doctype html><html><body style="margin: 0">
<script>
const pages = PAGES, found = {};
addEventListener("load", async () => {
  for (const page of pages) {
    const frame = document.createElement("iframe");
    frame.style = "width: WIDTHpx; height: 900px; border: 0; display: block";
    frame.src = page;
    const loaded = new Promise((done) => (frame.onload = done));
    document.body.append(frame);
    await loaded;
    for (let tries = 0; page.includes("?q=") && tries < 200; tries++) {
      if (frame.contentDocument.querySelector(".md-search-result__item")) break;
      await new Promise((done) => setTimeout(done, 50));
    }
    const root = frame.contentDocument.documentElement;
    found[page] = {
      window: frame.contentWindow.innerWidth,
      content: Math.max(root.scrollWidth, frame.contentDocument.body.scrollWidth),
      heading: frame.contentDocument.querySelector("h1").innerText,
      broken: [...frame.contentDocument.images].filter((image) => !image.naturalWidth).map((image) => image.src),
      results: [...frame.contentDocument.querySelectorAll(".md-search-result__item h1")].map((one) => one.innerText),
    };
    frame.remove();
  }
  document.body.innerText = JSON.stringify(found);
  document.title = "finished";
});
</script></body></html>"""


@pytest.mark.skipif(CHROMIUM is None, reason="opens pages in a browser: needs chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_opens_the_site_from_the_disk(site: Path, width: int) -> None:
    pages = ["index.html", "bert.html", "packing.html?q=packing", "reference/models.html"]
    probe = site / f"probe-{width}.html"
    probe.write_text(PROBE.replace("PAGES", json.dumps(pages)).replace("WIDTH", str(width)), encoding="utf-8")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [f"--user-data-dir={profile}", "--window-size=1300,900", "--virtual-time-budget=60000"]
        command = [str(CHROMIUM), *OPTIONS.split(), "--allow-file-access-from-files", *options, "--dump-dom"]
        done = subprocess.run([*command, probe.as_uri()], capture_output=True, text=True, timeout=120)
    probe.unlink()
    assert done.returncode == 0 and "<title>finished</title>" in done.stdout, done.stdout[-2000:] + done.stderr
    found = json.loads(re.findall(r"<body[^>]*>(.*)</body>", done.stdout, re.DOTALL)[0])
    assert [found[page]["window"] for page in pages] == [width] * len(pages)
    assert {page: found[page]["content"] for page in pages if found[page]["content"] > width} == {}
    assert [found[page]["broken"] for page in pages] == [[]] * len(pages)
    assert "Bases, heads and layers" in found["reference/models.html"]["heading"]
    assert any("Packing" in title for title in found["packing.html?q=packing"]["results"])
    assert re.findall(r"CONSOLE[:(].*", done.stderr) == []
