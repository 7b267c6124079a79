"""Pages as a browser sees them: opened in headless Chromium, their scripts run, read as a tree of elements."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
OPTIONS += " --disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr --v=0"
VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


@dataclass
class Element:
    """One element, with the text right inside it cut into pieces by its children."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list["Element | str"] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return self.attributes[name] or ""

    @property
    def classes(self) -> set[str]:
        return set((self.attributes.get("class") or "").split())

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, tag: str = "", *, cls: str = "") -> list["Element"]:
        return [each for each in self.walk() if tag in ("", each.tag) and (not cls or cls in each.classes)]

    def one(self, tag: str = "", *, cls: str = "") -> "Element":
        found = self.all(tag, cls=cls)
        assert len(found) == 1, f"{len(found)} elements {tag}.{cls}"
        return found[0]

    def walk(self) -> Iterator["Element"]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.walk()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, dict(attrs))
        self.open[-1].children.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_elements(text: str) -> Element:
    """Read HTML whose elements are all closed."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert len(reader.open) == 1, f"{reader.open[-1].tag} is never closed"
    return reader.open[0]


@dataclass(frozen=True)
class Opened:
    """What there is after a page's scripts have run, and what they wrote to the console."""

    page: Element
    console: list[str]


def open_page(path: Path, *options: str) -> Opened:
    """Open a local page in a browser of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            str(CHROMIUM),
            *OPTIONS.split(),
            f"--user-data-dir={profile}",
            "--virtual-time-budget=5000",
            *options,
        ]
        done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return Opened(read_elements(done.stdout), re.findall(r"CONSOLE[:(].*", done.stderr))


def act(path: Path, script: str, *, options: tuple[str, ...] = ()) -> Opened:
    """Open a copy of a page in which a script of the test runs last; the copy lets it, the page would not."""
    text, found = re.subn(r"<meta http-equiv=.Content-Security-Policy.[^\n]*\n", "", path.read_text(encoding="utf-8"))
    assert found == 1
    copy = path.with_name(f"acted-{path.name}")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return open_page(copy, *options)
