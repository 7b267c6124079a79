"""HTML that notebooks show in place of a text: small, escaped, without scripts, and readable on light and dark."""

import functools
import html
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from maquette.storage.paths import user_path
from maquette.storage.transaction import Transaction

LONGEST = 200  # letters of a value
# Colours are the notebook's own; what stands out is a tone between light and dark, mixed into them.
STYLE = """
.maquette { font: 13px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; color: inherit;
  max-width: 72rem; margin: 4px 0; overflow-x: auto; text-align: left; }
.maquette b { font-weight: 600; }
.maquette .quiet { opacity: 0.68; }
.maquette .mark { color: #c2640a; font-weight: 600; }
.maquette table { border-collapse: collapse; border: 0; margin: 4px 0; font-size: 13px; color: inherit; }
.maquette table :is(th, td) { text-align: left; font-weight: 400; padding: 2px 18px 2px 0; vertical-align: top;
  border: 0; border-bottom: 1px solid rgba(128, 128, 128, 0.25); background: none; overflow-wrap: break-word;
  max-width: 34rem; }
.maquette table thead th { opacity: 0.68; }
.maquette table .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.maquette table .name { min-width: 7rem; }
.maquette table tr { background: none; }
.maquette tr.changed .name { font-weight: 600; }
.maquette tr.changed .name::before { content: "● "; color: #c2640a; font-size: 9px; vertical-align: 1px; }
.maquette details > :not(summary) { margin-left: 14px; }
.maquette summary { cursor: pointer; }
.maquette .row { display: grid; grid-template-columns: minmax(12rem, 1fr) 7rem minmax(9rem, 16rem) 6rem; gap: 0 14px;
  border-bottom: 1px solid rgba(128, 128, 128, 0.2); padding: 2px 0; align-items: baseline; }
.maquette .row > * { overflow-wrap: anywhere; }
.maquette .row .number { text-align: right; font-variant-numeric: tabular-nums; }
.maquette summary.row { list-style: none; }
.maquette summary.row::-webkit-details-marker { display: none; }
.maquette .row .name { padding-left: 14px; position: relative; }
.maquette summary.row .name::before { content: "▸"; position: absolute; left: 0; opacity: 0.68; }
.maquette details[open] > summary.row .name::before { content: "▾"; }
.maquette .gauge { display: inline-block; width: 120px; height: 8px; border-radius: 4px; vertical-align: 0;
  background: rgba(128, 128, 128, 0.3); overflow: hidden; margin-right: 8px; }
.maquette .gauge i { display: block; height: 100%; background: #2f86c9; }
@media (max-width: 42rem) {
  .maquette .row { grid-template-columns: minmax(0, 1fr) 6rem; }
  .maquette .row .shape { padding-left: 14px; }
  .maquette .row.head .shape, .maquette .row.head .dtype { display: none; }
}
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title><style>:root {{ color-scheme: light dark; }} body {{ margin: 24px; }}</style></head>
<body>{body}</body></html>
"""


class Markup(str):
    """HTML that is written as it is; every other text is escaped."""

    __slots__ = ()


class View:
    """A picture that shows itself in a notebook, and as plain text elsewhere.

    Args:
        title: what it is called, where it is saved as a page.
        markup: its HTML.
        text: the same in plain text.
    """

    def __init__(self, title: str, markup: str, text: str) -> None:
        self.title, self.markup, self.text = title, markup, text

    def _repr_html_(self) -> str:
        return self.markup

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as an HTML page that asks for nothing from elsewhere; an older file is replaced at once."""
        path = user_path(path)
        page = PAGE.format(title=html.escape(self.title), body=self.markup)
        with Transaction(path.parent) as transaction:
            transaction.write(path.name, page.encode("utf-8", errors="backslashreplace"))
        return path


def never_raising(render: Callable[[Any], str]) -> Callable[[Any], str | None]:
    """Have a notebook fall back on the plain text where the HTML cannot be made: looking at an object never fails."""

    @functools.wraps(render)
    def show(self: Any) -> str | None:
        try:
            return render(self)
        except Exception:  # whatever an object is made of
            return None

    return show


def escape(value: Any) -> str:
    """Give a value as HTML; what is too long is cut."""
    if isinstance(value, Markup):
        return value
    text = str(value)
    return html.escape(text if len(text) <= LONGEST else f"{text[:LONGEST]} …")


def frame(title: Any, about: Any, *body: str, style: str = "") -> str:
    """Put a heading and its parts into one piece, with the style that it needs."""
    heading = f"<div><b>{escape(title)}</b> <span class='quiet'>{escape(about)}</span></div>"
    return f"<div class='maquette'><style>{STYLE}{style}</style>{heading}{''.join(body)}</div>"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Iterable[int] = (), marked: Any = ()) -> str:
    """Write a table.

    Args:
        head: names of the columns.
        rows: their cells, of which the first is a name.
        numbers: the columns that hold numbers.
        marked: the places of rows that stand out.
    """
    kinds = [" class='number'" if place in [*numbers] else "" for place in range(len(head))]
    kinds[0] = " class='name'"
    top = "".join(f"<th scope='col'{kind}>{escape(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    body = []
    for place, row in enumerate(rows):
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        kind = " class='changed'" if place in marked else ""
        body.append(f"<tr{kind}>{cells}</tr>")
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def folded(summary: Any, content: str, *, is_open: bool = False) -> Markup:
    """Write what is unfolded by a click."""
    return Markup(f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{content}</details>")


def gauge(share: float) -> Markup:
    """Draw a share between 0 and 1."""
    width = f"{min(max(share, 0.0), 1.0):.1%}"
    return Markup(f"<span class='gauge' aria-hidden='true'><i style='width:{width}'></i></span>")
