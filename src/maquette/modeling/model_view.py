"""A model of any framework as a notebook shows it: a tree of its modules that folds, with the shapes of its weights."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from maquette.modeling.model_parts import Part, Weight, fold
from maquette.storage.html_view import escape, frame

OPEN = 1  # levels of the tree that are unfolded at first
MOST_ROWS = 2_000

Named = tuple[tuple[str, ...], Any, str]  # a weight's path, itself, and the first name of the one it is


def draw_model(tree: Part, about: str = "") -> str:
    """Give the HTML of a model's tree."""
    weights = [(weight, part.alike) for part in tree.walk() for weight in part.weights]
    types = Counter(w.dtype for w, _ in weights if w.kind == "parameter")
    tied = f", {tree.tied:,} more are tied to these" if tree.tied else ""
    frozen = sum(not w.trainable for w, _ in weights if w.kind == "parameter")
    still = ", some of them frozen" if frozen else ""
    facts = f"{tree.parameters:,} parameters in {', '.join(types) or 'no type'}{still}{tied}{about}"
    head = "".join(
        f"<span class='{kind} quiet'>{text}</span>"
        for kind, text in (("name", "module"), ("number", "parameters"), ("shape", "shape"), ("dtype", "type"))
    )
    rows = "".join(_draw(tree, 0, [MOST_ROWS]))
    return frame(tree.name, facts, f"<div class='row head'>{head}</div>{rows}")


def plant(kind: str, named: Iterable[Named]) -> Part:
    """Make the tree of a model that is known by the paths of its weights alone."""
    return _plant(kind, "", [(path, path, value, first) for path, value, first in named], kind)


def _plant(name: str, path: str, inside: list[tuple[Any, ...]], kind: str = "") -> Part:
    groups: dict[str, list[tuple[Any, ...]]] = {}
    weights = []
    for rest, whole, value, first in inside:
        if len(rest) == 1:
            shape = tuple(int(size) for size in value.shape)
            dtype = str(getattr(value.dtype, "name", value.dtype))
            tied = "" if first in ("", ".".join(whole)) else first
            count = math.prod(shape)
            trainable = bool(getattr(value, "trainable", True))
            weights.append(Weight(rest[0], shape, dtype, count, 0, count, tied, trainable=trainable))
        else:
            groups.setdefault(rest[0], []).append((rest[1:], whole, value, first))
    parts = [_plant(key, f"{path}.{key}".lstrip("."), group) for key, group in groups.items()]
    return Part(
        name,
        path,
        kind,
        tuple(weights),
        tuple(fold(parts)),
        parameters=sum(w.count for w in weights if not w.tied_to) + sum(part.parameters for part in parts),
        tied=sum(w.count for w in weights if w.tied_to) + sum(part.tied for part in parts),
    )


def _draw(part: Part, level: int, left: list[int]) -> Iterator[str]:
    left[0] -= 1
    if left[0] < 0:
        if left[0] == -1:
            yield f"<div class='quiet'>and more: only {MOST_ROWS:,} rows are shown</div>"
        return
    alike = f" <span class='quiet'>× {part.alike}</span>" if part.alike > 1 else ""
    kind = f" <span class='quiet'>{escape(part.kind)}</span>" if level and part.kind else ""
    note = f" <span class='mark'>{escape(part.note)}</span>" if part.note else ""
    tied = f"<span class='quiet'>+ {part.tied:,} tied</span>" if part.tied and not part.parameters else ""
    count = f"{part.parameters:,}" if part.parameters else tied
    largest = max(part.weights, key=lambda weight: weight.count) if part.weights and not part.parts else None
    shape, dtype = (_shape(largest), largest.dtype) if largest else ("", "")
    row = (
        f"<span class='name'>{escape(part.name)}{alike}{kind}{note}</span><span class='number'>{count}</span>"
        f"<span class='shape quiet'>{shape}</span><span class='dtype quiet'>{escape(dtype)}</span>"
    )
    if not part.parts and not part.weights:
        yield f"<div class='row'>{row}</div>"
        return
    inner = "".join(text for weight in part.weights for text in _weight(weight))
    inner += "".join(text for each in part.parts for text in _draw(each, level + 1, left))
    yield f"<details{' open' if level < OPEN else ''}><summary class='row'>{row}</summary><div>{inner}</div></details>"


def _shape(weight: Weight) -> str:
    return " × ".join(map(str, weight.shape)) or "one number"


def _weight(weight: Weight) -> Iterator[str]:
    tied = f" <span class='mark'>= {escape(weight.tied_to)}</span>" if weight.tied_to else ""
    what = [*(["buffer"] if weight.kind == "buffer" else []), *([] if weight.trainable else ["frozen"])]
    what = what[:1] if weight.kind == "buffer" else what
    words = f" <span class='quiet'>{' '.join(what)}</span>" if what else ""
    yield (
        f"<div class='row'><span class='name'>{escape(weight.name)}{words}{tied}</span>"
        f"<span class='number'>{weight.count:,}</span><span class='shape quiet'>{_shape(weight)}</span>"
        f"<span class='dtype quiet'>{escape(weight.dtype)}</span></div>"
    )
