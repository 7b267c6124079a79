"""What is said of weights that do not fit a model: counts first, names by groups, and their likely other names."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from maquette.checkpoint.reading import Shape
from maquette.errors import bullets

MOST = 12  # lines of one kind; what is more is said by groups


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """The differences between a file and a model that a load does not let pass."""

    mismatched: Sequence[tuple[str, Shape, Shape]]  # name, shape in the file, shape in the model
    missing: Mapping[str, Shape | None]
    unexpected: Mapping[str, Shape]
    fitting: int
    wanted: int
    refuses_unexpected: bool

    def describe(self, *, model: str, label: str) -> str:
        """Say it in one message."""
        shapes = {
            f"{name}: {found} in the file, {wanted} in the model": name for name, found, wanted in self.mismatched
        }
        lines = _few(shapes, "another shape in the file")
        near = self._nearest()
        missing = {f"{name}: not in the file{near.get(name, '')}": name for name in self.missing}
        lines += _few(missing, "not in the file", near)
        if self.refuses_unexpected:
            lines += _few({f"{name}: not in the model": name for name in self.unexpected}, "not in the model")
        text = f"The weights of {label!r} do not fit {model}{self._counts()}:{bullets(lines)}"
        if advice := self._other_prefix() or self._ways_through():
            text += f"\n{advice}"
        if self.unexpected and not self.refuses_unexpected:
            unused = _few({name: name for name in self.unexpected}, "")
            text += f"\nIn the file, but not in the model:{bullets(unused)}"
        return text

    def _counts(self) -> str:
        if len(self.missing) + len(self.mismatched) + len(self.unexpected) <= MOST:
            return ""
        parts = [f"{len(self.missing)} missing"] if self.missing else []
        parts += [f"{len(self.mismatched)} of another shape"] if self.mismatched else []
        unused = f"; {len(self.unexpected)} of the file fit nowhere" if self.unexpected else ""
        return f". Of its {self.wanted} weights, {self.fitting} fit, {', '.join(parts) or 'none is missing'}{unused}"

    def _ways_through(self) -> str:
        if not self.fitting and not self.mismatched:
            return "Nothing fits: is it a checkpoint of this architecture? Other names can be given by key_mapping={…}."
        ways = ["pass ignore_mismatched_sizes=True to have these initialised anew"] if self.mismatched else []
        if self.missing and 2 * self.fitting >= len(self.missing):
            tops = dict.fromkeys(f'"{name.partition(".")[0]}.*"' for name in self.missing)
            ways.append(f"pass allow_missing=[{', '.join(tops)}] to have these initialised anew")
        return f"If that is meant, {', and '.join(ways)}." if ways else ""

    def _other_prefix(self) -> str:
        """Name what stands before most names in only one of file and model."""
        enough = max(2, (len(self.missing) + 1) // 2)
        start, count = _extra_prefix(self.unexpected, self.missing)
        if count >= enough:
            pattern = "^" + start.replace(".", r"\.")
            return (
                f"{count} of these are under `{start}` in the file: pass key_mapping={{{_raw(pattern)}: ''}} to take "
                "that away."
            )
        start, count = _extra_prefix(self.missing, self.unexpected)
        if count >= enough:
            return (
                f"The file has {count} of these without `{start}`: pass key_mapping={{'^': {start!r}}} to put it there."
            )
        return ""

    def _nearest(self) -> dict[str, str]:
        """Find for missing names the nearest names of the file that have the same shape."""
        is_many = len(self.missing) > MOST
        wanted, given = (
            {_pattern(name) if is_many else name: shape for name, shape in table.items()}
            for table in (self.missing, self.unexpected)
        )
        found = {}
        for name, shape in list(wanted.items())[: 3 * MOST]:
            same = [key for key, other in given.items() if other == shape]
            if close := get_close_matches(name, same, n=1, cutoff=0.5):
                found[name] = f" (of its shape there: {close[0]})"
        return found


def _raw(pattern: str) -> str:
    return f"r'{pattern}'" if "\\" in pattern else repr(pattern)


def _extra_prefix(longer: Iterable[str], shorter: Iterable[str]) -> tuple[str, int]:
    """Find what stands before most of the names that the other side has without it, and how many these are."""
    plain = set(shorter)
    counts: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".")
        tails = ((".".join(parts[n:]), ".".join(parts[:n])) for n in range(1, len(parts)))
        counts.update(f"{head}." for tail, head in tails if tail in plain)
    return counts.most_common(1)[0] if counts else ("", 0)


def _few(lines: Mapping[str, str], verdict: str, ends: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Give the lines; or, where they are many, one for each group of the names that they are about."""
    if len(lines) <= MOST:
        return list(lines)
    end = f": {verdict}" if verdict else ""
    groups = _group(lines.values())
    return [f"{name}{f' ({count})' if count > 1 else ''}{end}{ends.get(_pattern(name), '')}" for name, count in groups]


def _pattern(name: str) -> str:
    """Put a star where a name counts: `layer.3.weight` → `layer.*.weight`."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def _group(names: Iterable[str]) -> list[tuple[str, int]]:
    """Put names that differ in numbers only into one group, then those that begin alike, until groups are few."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_pattern(name), []).append(name)
    groups = Counter({_common(group): len(group) for group in alike.values()})
    depth = max(name.count(".") for name in groups)
    while len(groups) > MOST and depth:
        shorter: Counter[str] = Counter()
        for name, count in groups.items():
            parts = name.split(".")
            shorter[".".join(parts[:depth]) + ".*" if len(parts) > depth else name] += count
        groups, depth = shorter, depth - 1
    return [*groups.items()][:MOST] + ([("…", len(groups) - MOST)] if len(groups) > MOST else [])


def _common(names: list[str]) -> str:
    """Give names of one pattern as one, with a star where they differ: a number that all have stays."""
    columns = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(parts[0] if len({*parts}) == 1 else "*" for parts in columns)
