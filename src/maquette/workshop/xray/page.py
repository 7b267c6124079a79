"""One HTML page about a model that asks for nothing from elsewhere: an area for each module, and the tree."""

import html
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from maquette.errors import ConfigurationError, SaveError
from maquette.modeling.model_parts import Part
from maquette.storage.html_page import fill_page
from maquette.storage.paths import user_path
from maquette.storage.transaction import Transaction
from maquette.workshop.xray.survey import XRay
from maquette.workshop.xray.terminal import list_facts, show_bytes, show_count, show_shapes

OPEN = 2  # levels of the tree that are unfolded at first


def write_page(seen: XRay, path: str | os.PathLike[str]) -> Path:
    """Write what was seen of a model as one page; an older one is replaced at once, or not at all.

    Raises:
        ConfigurationError: the model could not be built, so there are no modules to show.
        SaveError: the path is a folder.
    """
    path = user_path(path)
    if path.is_dir():
        raise SaveError(f"{str(path)!r} is a folder: name the file that the page goes into.")
    page = render_page(seen)
    with Transaction(path.parent) as transaction:
        transaction.write(path.name, page.encode("utf-8", errors="backslashreplace"))
    return path


def render_page(seen: XRay) -> str:
    """Give the page as text."""
    if seen.tree is None:
        raise ConfigurationError(f"{seen.label} has no modules to show. {' '.join(seen.notes)}")
    parts = {
        "title": html.escape(seen.kind),
        "subtitle": html.escape(seen.label if seen.label != seen.kind else f"in {seen.dtype}"),
        "notes": "".join(f"<p class='note' role='note'>{html.escape(note)}</p>" for note in seen.notes),
        "facts": "".join(
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in list_facts(seen).items()
        ),
        "tree": draw_tree(seen.tree),
    }
    return fill_page("maquette.workshop.xray", parts, asdict(seen.tree))


def draw_tree(tree: Part) -> str:
    """Give a model's modules as the elements of a list, which fold."""
    return "".join(_head()) + _branch(tree, tree, 0)


def _head() -> Iterator[str]:
    names = ("module", "parameters", "FLOP", "share", "kept", "gives")
    kinds = {"module": "name", "gives": "shape"}
    cells = "".join(f"<span class='{kinds.get(name, '')}'>{name}</span>" for name in names)
    yield f"<li><div class='row head'>{cells}</div></li>"


def _branch(part: Part, whole: Part, level: int) -> str:
    cells = "".join(_cells(part, whole))
    if not part.parts:
        return f"<li><div class='row'>{cells}</div></li>"
    inner = "".join(_branch(each, whole, level + 1) for each in part.parts)
    is_open = " open" if level < OPEN else ""
    return f"<li><details{is_open}><summary class='row'>{cells}</summary><ul>{inner}</ul></details></li>"


def _cells(part: Part, whole: Part) -> Iterator[str]:
    alike = f" <small>{part.alike} alike</small>" if part.alike > 1 else ""
    note = f" <small>{html.escape(part.note)}</small>" if part.note else ""
    yield f"<span class='name'>{html.escape(part.name)}{alike} <small>{html.escape(part.kind)}</small>{note}</span>"
    tied = f"= {show_count(part.tied)}" if part.tied else ""
    yield f"<span>{show_count(part.parameters) if part.parameters else tied}</span>"
    yield f"<span>{show_count(part.flops) if part.flops else ''}</span>"
    yield f"<span>{f'{part.flops / whole.flops:.1%}' if part.flops and whole.flops else ''}</span>"
    yield f"<span>{show_bytes(part.kept) if part.kept else ''}</span>"
    yield f"<span class='shape'>{html.escape(show_shapes(part.gives, 1))}</span>"
