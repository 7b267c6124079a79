"""`draw_attention`: every layer and head small, and one of them large, with the tokens beside it."""

import html
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from maquette.batch.tensors import to_numpy
from maquette.errors import InputError
from maquette.storage.html_view import View, escape, frame
from maquette.workshop.drawings.png import png_uri

MOST_HEADS, MOST_LAYERS = 32, 48  # of the small pictures
SMALL, LARGE = 64, 256  # most places along a side; more are drawn together, the greatest of each block
MOST_TITLES = 1_600  # cells of the large one that tell their weight
LABEL, CELL = 11, 22  # letters, and units of a cell

Weights = "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"

STYLE = """
.maquette .heads { display: grid; gap: 3px; width: max-content; max-width: 100%; overflow-x: auto;
  padding: 3px; align-items: center; }
.maquette .heads img { width: 44px; height: 44px; image-rendering: pixelated;
  outline: 1px solid rgba(128, 128, 128, 0.3); outline-offset: -1px; display: block; margin: 0;
  max-width: none; background: none; }
.maquette .heads img.chosen { outline: 2px solid #c2640a; outline-offset: 0; }
.maquette .heads span { opacity: 0.68; font-size: 11px; text-align: center; padding-right: 4px; }
.maquette .sides { display: flex; flex-wrap: wrap; gap: 20px 28px; align-items: flex-start; margin-top: 8px; }
.maquette .sides > div { max-width: 100%; }
.maquette svg { max-width: 100%; height: auto; display: block; }
.maquette svg text { fill: currentColor; font-size: 11px; }
.maquette svg image { image-rendering: pixelated; }
.maquette svg .edge { fill: none; stroke: rgba(128, 128, 128, 0.45); }
.maquette svg .cell { fill: transparent; }
.maquette svg .cell:hover { stroke: #c2640a; stroke-width: 1.5; }
"""


def draw_attention(
    attentions: Any,
    tokens: Sequence[str] | None = None,
    *,
    keys: Sequence[str] | None = None,
    layer: int = -1,
    head: int = 0,
    row: int = 0,
) -> View:
    """Draw what a model looks at: all layers and heads small, and one of them large.

    Args:
        attentions: what a model returned with `output_attentions=True`, or the weights themselves: for each layer
            `(batch, heads, tokens, keys)`, of any framework.
        tokens: what looks, in words; the tokens' numbers unless given.
        keys: what is looked at, where this is another text (`output.cross_attentions`); `tokens` unless given.
        layer, head: which one is drawn large; negative ones count from the end.
        row: which text of the batch.

    Returns:
        A view that shows itself in notebooks, is plain text for `print`, and has `save(path)`. In the large picture a
        token's weights are a line of cells; full ink is the greatest weight of that head.

    Raises:
        InputError: there are no attention weights, no such layer, head or row, or another number of tokens.
    """
    layers = _read(attentions, row)
    layer, head = _index("layer", layer, len(layers)), _index("head", head, len(layers[layer]))
    weights = layers[layer][head]
    looks = _names("tokens", tokens, weights.shape[0])
    seen = _names("keys", keys, weights.shape[1]) if keys is not None or weights.shape[0] != weights.shape[1] else looks
    about = f"{len(layers)} layers, {len(layers[layer])} heads, {weights.shape[0]} × {weights.shape[1]} tokens"
    title = f"<div>layer {layer}, head {head} <span class='quiet'>full ink is {_greatest(weights):.3g}</span></div>"
    sides = (_small(layers, layer, head), title + _large(weights, looks, seen))
    body = "".join(f"<div>{side}</div>" for side in sides)
    markup = frame("Attention", about, f"<div class='sides'>{body}</div>", style=STYLE)
    return View("Attention", markup, "\n".join(_lines(weights, looks, seen, f"{about}; layer {layer}, head {head}")))


def _read(attentions: Any, row: int) -> list[Any]:
    """Give the weights of each layer, `(heads, tokens, keys)`."""
    found = getattr(attentions, "attentions", attentions) if not isinstance(attentions, tuple | list) else attentions
    if found is None or isinstance(found, dict):
        raise InputError(
            f"The {type(attentions).__name__} has no attention weights. Call the model with output_attentions=True; a "
            "model with an encoder keeps several: give output.encoder_attentions, decoder_attentions or "
            "cross_attentions."
        )
    layers = []
    for number, each in enumerate(found if isinstance(found, tuple | list) else [found]):
        shape = tuple(getattr(each, "shape", ()))
        if len(shape) != 4 or not all(shape):
            raise InputError(
                f"Layer {number} has weights of the shape {shape}; (batch, heads, tokens, keys) was expected. For one "
                "head, weights[None, None]; of a model that returns a tuple, give the attentions in it."
            )
        layers.append(np.asarray(to_numpy(each[_index("row", row, shape[0])]), dtype=np.float64))
    if not layers:
        raise InputError("There are no layers of attention weights.")
    return layers


def _index(what: str, number: int, count: int) -> int:
    if not -count <= number < count:
        raise InputError(f"{what}={number}: there are {count}, 0 to {count - 1}.")
    return number % count


def _names(what: str, given: Sequence[str] | None, count: int) -> list[str]:
    if given is None:
        return [str(place) for place in range(count)]
    if len(given) != count:
        raise InputError(f"{what} has {len(given)} names, and the weights are of {count} tokens.")
    return [str(name) for name in given]


def _greatest(weights: Any) -> float:
    return float(np.nan_to_num(weights).max()) or 1.0


def _pool(weights: Any, most: int) -> Any:
    """Draw places together until there are few enough: the greatest weight of each block."""
    for axis in (0, 1):
        count = weights.shape[axis]
        if count > most:
            starts = np.unique(np.arange(most) * count // most)
            weights = np.maximum.reduceat(np.nan_to_num(weights), starts, axis=axis)
    return weights


def _small(layers: list[Any], layer: int, head: int) -> str:
    heads = min(max(len(each) for each in layers), MOST_HEADS)
    cells = ["<span></span>", *(f"<span>{number}</span>" for number in range(heads))]
    for place, each in enumerate(layers[:MOST_LAYERS]):
        cells.append(f"<span>{place}</span>")
        for number in range(heads):
            if number >= len(each):
                cells.append("<span></span>")
                continue
            picture = png_uri(_pool(each[number], SMALL) / _greatest(each[number]))
            chosen = " class='chosen'" if (place, number) == (layer, head) else ""
            cells.append(f"<img{chosen} alt='layer {place}, head {number}' src='{picture}'>")
    grid = f"grid-template-columns: auto repeat({heads}, 44px)"
    rest = len(layers) > MOST_LAYERS or max(map(len, layers)) > MOST_HEADS
    more = f"; the first {MOST_LAYERS} × {MOST_HEADS} at most" if rest else ""
    about = f"<div class='quiet'>layers down, heads across{more}</div>"
    return f"{about}<div class='heads' style='{grid}'>{''.join(cells)}</div>"


def _large(weights: Any, looks: list[str], seen: list[str]) -> str:
    """Draw one head, with names at the edges and the weights as titles."""
    rows, columns = weights.shape
    cell = CELL if max(rows, columns) <= 24 else max(1.5, 540 / max(rows, columns))
    left, top = (7 * min(max(map(len, names)), LABEL) + 10 for names in (looks, seen))
    width, height = columns * cell, rows * cell
    picture = png_uri(_pool(weights, LARGE) / _greatest(weights))
    room = f"x='{left}' y='{top}' width='{width:.1f}' height='{height:.1f}'"
    parts = [
        f"<image {room} preserveAspectRatio='none' href='{picture}'></image>",
        f"<rect class='edge' {room}></rect>",
    ]
    step = max(1, round(13 / cell))
    for place in range(0, rows, step):
        y = top + (place + 0.5) * cell + 4
        parts.append(f"<text x='{left - 6}' y='{y:.1f}' text-anchor='end'>{_label(looks[place])}</text>")
    for place in range(0, columns, step):
        x = left + (place + 0.5) * cell + 4
        turn = f"translate({x:.1f} {top - 6}) rotate(-90)"
        parts.append(f"<text transform='{turn}'>{_label(seen[place])}</text>")
    if rows * columns <= MOST_TITLES:
        parts += _titles(weights, looks, seen, (left, top, cell))
    size = f"{left + width + 4:.0f} {top + height + 4:.0f}"
    wide, high = size.split()
    return f"<svg viewBox='0 0 {size}' width='{wide}' height='{high}' role='img'>{''.join(parts)}</svg>"


def _titles(weights: Any, looks: list[str], seen: list[str], where: tuple[float, float, float]) -> Iterator[str]:
    left, top, cell = where
    for row, name in enumerate(looks):
        for column, key in enumerate(seen):
            title = f"{escape(name)} → {escape(key)}: {weights[row, column]:.4f}"
            place = f"x='{left + column * cell:.1f}' y='{top + row * cell:.1f}' width='{cell:.1f}' height='{cell:.1f}'"
            yield f"<rect class='cell' {place}><title>{title}</title></rect>"


def _label(name: str) -> str:
    name = name.replace("\n", "⏎").replace("Ġ", "·").replace("▁", "·")
    return html.escape(name if len(name) <= LABEL else f"{name[: LABEL - 1]}…")


def _lines(weights: Any, looks: list[str], seen: list[str], about: str) -> Iterator[str]:
    """Tell in words what each token looks at most."""
    yield f"Attention: {about}"
    wide = min(max(map(len, looks)), 20)
    for name, each in zip(looks, np.nan_to_num(weights), strict=True):
        most = np.argsort(-each, kind="stable")[:3]
        yield f"  {name!s:<{wide}} → {', '.join(f'{seen[place]} {each[place]:.2f}' for place in most)}"
