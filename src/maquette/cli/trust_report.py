"""What `maquette trust` shows: what the code of a checkpoint is, what it can do, and what is new in it."""

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.hub.sources import Source
from maquette.remote_code.capabilities import KINDS, scan_capabilities
from maquette.remote_code.package import CodePackage
from maquette.remote_code.trust import (
    Approval,
    References,
    collect_references,
    command,
    find_approval,
    list_changes,
    read_approved,
)
from maquette.storage.paths import user_path

MOST_LINES = 400  # of one file's difference
Line = tuple[str, str]  # a style, and the text
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def show(text: str) -> str:
    """Write characters that a terminal would obey, or not show, as what they are."""
    return UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


@dataclass(frozen=True)
class Survey:
    """The code of one checkpoint, what its maps name, and what was approved before."""

    package: CodePackage
    references: References
    folder: str
    approval: Approval | None

    @classmethod
    def take(cls, source: Source) -> "Survey":
        """Read a checkpoint; nothing of it runs."""
        references = collect_references(source, {})
        package = CodePackage.read(source, references)
        paths = [path for name in sorted(package.files) if (path := source.find(name))]
        top = len(sorted(package.files)[0].split("/")) if paths else 0
        folder = str(paths[0].parents[top - 1]) if paths else ""
        return cls(package, references, folder, find_approval(package.identity))

    @property
    def changes(self) -> list[str]:
        """Say what differs from what was approved."""
        return list_changes(self.approval.entry, self.package) if self.approval else []

    @property
    def foreign(self) -> list[str]:
        """List the other repositories whose code the maps name."""
        named = {text.rpartition("--")[0] for texts in self.references.values() for text in texts}
        return sorted(named - {"", self.package.label})

    def lines(self) -> Iterator[Line]:
        """Write the whole report."""
        yield from self._code()
        yield from self._capabilities()
        yield from self.state()
        if self.approval and self.changes:
            yield from self._differences(self.approval.entry)
        if not self.approval or self.changes:
            digest = f"--digest sha256:{self.package.digest}"
            yield "", ""
            yield "bold", "If you have read it and trust it:"
            yield "", f"  {command(self.package, '--approve', digest)}"
            yield "", f"  {command(self.package, '--lock', digest)}   (for everyone in this project)"

    def head(self) -> Line:
        """Say in one line what was read."""
        package = self.package
        at = f" at commit {package.commit}" if package.commit else ""
        number = f"{len(package.files)} Python file{'s' * (len(package.files) != 1)}"
        return "bold", f"{package.label}{at}: {number}, sha256:{package.digest}"

    def _code(self) -> Iterator[Line]:
        yield self.head()
        if self.folder:
            yield "", f"  in {self.folder}"
        for name, content in sorted(self.package.files.items()):
            yield "", f"  {name}  {len(content)} bytes"
        yield "", ""
        yield "bold", "Classes that its auto_map names"
        for auto_class, named in self.references.items():
            yield "", f"  {auto_class}: {', '.join(named)}"
        if not self.references:
            yield "", "  none: no AutoClass runs anything of it"
        for repository in self.foreign:
            yield "red", f"  code of another repository, with an approval of its own: maquette trust {repository}"

    def _capabilities(self) -> Iterator[Line]:
        capabilities = scan_capabilities(self.package.files)
        yield "", ""
        yield "bold", "What the code can do, found by reading it"
        imports = ", ".join(capabilities.imports) or "nothing but its own files and the standard library"
        yield "", f"  imports: {imports} (installed packages are not read)"
        found = {kind: capabilities.of(kind) for kind in KINDS}
        for kind, whats in found.items():
            if whats:
                yield "red", f"  {kind}" + (": where reading cannot tell" if kind == "opaque" else "")
            for what, places in sorted(whats.items()):
                more = f" and {len(places) - 8} more" if len(places) > 8 else ""
                yield "", f"    {what}  {', '.join(places[:8])}{more}"
        if absent := [kind for kind, whats in found.items() if not whats]:
            yield "", f"  nothing found of: {', '.join(absent)}. That is no judgement: reading finds what is written."

    def state(self) -> Iterator[Line]:
        """Say whether it was approved."""
        yield "", ""
        if self.approval is None:
            yield "red", "Not approved."
        elif self.changes:
            yield "red", f"Approved in {self.approval.place}, and changed since:"
            yield from (("", f"  - {change}") for change in self.changes)
        else:
            yield "green", f"Approved as it is, in {self.approval.place}."

    def _differences(self, before: dict[str, Any] | Any) -> Iterator[Line]:
        now = self.package.hashes
        for name in sorted({*before["files"], *now}):
            if before["files"].get(name) != now.get(name):
                yield "", ""
                yield from self._difference(before, name)

    def _difference(self, before: Any, name: str) -> Iterator[Line]:
        old = read_approved(before, self.package.identity, name) if name in before["files"] else b""
        if old is None:
            yield "red", f"{name}: what was approved is not kept here, so the lines that changed cannot be told"
            return
        one, other = (
            text.decode("utf-8", errors="backslashreplace").split("\n")
            for text in (old, self.package.files.get(name, b""))
        )
        styles = {"+": "green", "-": "red", "@": "cyan"}
        lines = list(difflib.unified_diff(one, other, f"{name} (approved)", f"{name} (now)", lineterm=""))
        for line in lines[:MOST_LINES]:
            yield styles.get(line[:1], ""), line
        if len(lines) > MOST_LINES:
            yield "red", f"… and {len(lines) - MOST_LINES} more lines; read the file itself"


def split_target(target: str) -> tuple[str, str | None]:
    """Take `REPO@REVISION` apart; what is there as a folder or file is a path, whatever its name."""
    if os.path.lexists(user_path(target)) or "@" not in target:
        return target, None
    name, _, revision = target.rpartition("@")
    return name, revision or None


def list_approvals(place: Path, record: dict[str, Any]) -> Iterator[Line]:
    """Write one record of approvals as a list."""
    yield "bold", f"{place}: {len(record)} approval{'s' * (len(record) != 1)}"
    for name, entry in sorted(record.items()):
        at = f"commit {str(entry.get('commit'))[:12]}, " if entry.get("commit") else ""
        yield "", f"  {name}  ({at}{len(entry['files'])} files, sha256:{entry['digest'][:12]}…)"
