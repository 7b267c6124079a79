"""What `maquette xray` writes in a terminal: figures, and the modules as a tree."""

from collections.abc import Iterator, Sequence

from maquette.modeling.model_parts import Part, Shapes
from maquette.workshop.xray.survey import XRay

Line = tuple[str, str]  # a style, and the text
Row = tuple[str, ...]
BINARY, DECIMAL = ("B", "KiB", "MiB", "GiB", "TiB", "PiB"), ("", " k", " M", " G", " T", " P", " E")
KINDS = {
    "layers": "products with weights",
    "experts": "experts",
    "convolutions": "convolutions",
    "attention": "attention and other products of states",
}


def show_count(value: float) -> str:
    """Write a number with three digits: `124 M`."""
    return _scaled(value, 1000, DECIMAL).rstrip()


def show_bytes(value: float) -> str:
    """Write bytes with three digits: `2.14 GiB`."""
    return _scaled(value, 1024, tuple(f" {unit}" for unit in BINARY))


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    place = 0
    while round(abs(value), 3 - len(str(int(abs(value))))) >= base and place < len(units) - 1:
        value, place = value / base, place + 1
    text = f"{value:.0f}" if not place or abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{text}{units[place]}"


def show_shapes(shapes: Shapes, most: int = 2) -> str:
    """Write shapes as `8 × 512 × 768`."""
    texts = ["×".join(map(str, shape)) or "one number" for shape in shapes[:most]]
    return ", ".join(texts) + (", …" if len(shapes) > most else "")


def show_lines(seen: XRay, *, depth: int | None = None) -> Iterator[Line]:
    """Write everything that was seen; modules down to a depth, all of them unless given."""
    yield "bold", seen.label if seen.kind in ("", seen.label) else f"{seen.label}: {seen.kind}"
    yield from (("", f"  {name:<12}{value}") for name, value in list_facts(seen).items())
    if seen.weights is not None:
        yield from _files(seen)
    for name, place in seen.ties.items():
        yield "", f"  tied        {name} is {place}"
    yield from (("yellow", f"  note        {note}") for note in seen.notes)
    if seen.tree is not None:
        yield "", ""
        yield from _tree(seen.tree, depth)


def list_facts(seen: XRay) -> dict[str, str]:
    """Give the figures of the whole model in words, by what they are."""
    facts = {}
    if (tree := seen.tree) is not None:
        facts["parameters"] = f"{tree.parameters:,} in {seen.dtype}"
        if tree.tied:
            facts["parameters"] += f", and {tree.tied:,} that are tied to these"
        if tree.active != tree.parameters:
            facts["active"] = f"{tree.active:,} for each token ({tree.active / tree.parameters:.1%})"
    if (run := seen.run) is not None:
        what = "a step of training" if seen.train else "a forward"
        facts["measured"] = f"{what} on batch {seen.batch}, length {seen.length}, run without memory"
        kinds = ", ".join(
            f"{KINDS.get(kind, kind)} {value / max(sum(run.forward.values()), 1):.1%}"
            for kind, value in sorted(run.forward.items(), key=lambda item: -item[1])
        )
        backward = f", of these {show_count(run.backward)}FLOP backward" if run.backward else ""
        facts["work"] = f"{show_count(seen.flops)}FLOP{backward}; forward: {kinds or 'no products'}"
        parts = ", ".join(f"{name} {show_bytes(size)}" for name, size in run.memory.items() if name != "peak" and size)
        facts["memory"] = f"{show_bytes(run.memory['peak'])} at most, in {run.peak_at}"
        facts["of that"] = parts
        if seen.cache:
            facts["cache"] = f"{show_bytes(seen.cache)} for {seen.batch} × {seen.length} tokens, when generating"
        facts["intensity"] = f"{seen.intensity:.1f} FLOP for each byte read or written, nothing fused"
        speed = seen.bound_speed()
        if seen.machine is not None and speed:
            unit = "tokens" if run.outputs and _is_text(seen) else "places"
            told = f"{show_count(speed['step'])} {unit} a second".replace("  ", " ")
            if "generate" in speed:
                told += f"; {show_count(speed['generate'])} a second when generating".replace("  ", " ")
            room = seen.machine.memory or run.memory["peak"]
            fits = "" if run.memory["peak"] <= room else f", which has not got this memory ({show_bytes(room)})"
            facts["at most"] = f"{told}, on one {seen.machine.name}{fits}"
    return facts


def _is_text(seen: XRay) -> bool:
    return bool(seen.tree and any(part.kind == "Embedding" for part in seen.tree.walk()))


def _files(seen: XRay) -> Iterator[Line]:
    weights = seen.weights
    assert weights is not None
    if weights.files:
        types = ", ".join(f"{count:,} {kind}" for kind, count in weights.types.items())
        size = show_bytes(sum(weights.files.values()))
        yield (
            "",
            f"  files       {len(weights.files)} of safetensors, {size}: {len(weights.tensors):,} tensors, {types}",
        )
    if weights.pickled:
        yield "", f"  unread      {', '.join(weights.pickled)}: pickled, which only code can read"
    for what, names in seen.misfit.items():
        if names:
            more = f", and {len(names) - 4:,} more" if len(names) > 4 else ""
            yield "yellow", f"  {what:<12}{', '.join(names[:4])}{more}"
    if seen.tree is None:
        for tensor in list(weights.tensors.values())[:40]:
            yield "", f"    {tensor.name}  {show_shapes((tensor.shape,))}  {tensor.dtype}"
        if len(weights.tensors) > 40:
            yield "", f"    … and {len(weights.tensors) - 40:,} more; --json lists all"


def _tree(tree: Part, depth: int | None) -> Iterator[Line]:
    rows: list[tuple[str, Row]] = [("bold", ("module", "parameters", "active", "FLOP", "share", "kept", "gives"))]
    rows += _rows(tree, tree, "", "", depth)
    columns = [column for column in range(7) if any(row[column] not in ("", "-") for _, row in rows[1:])]
    widths = {column: max(len(row[column]) for _, row in rows) for column in columns}
    for style, row in rows:
        cells = (row[c].ljust(widths[c]) if c in (0, 6) else row[c].rjust(widths[c]) for c in columns)
        yield style, "  ".join(cells).rstrip()


def _rows(part: Part, whole: Part, first: str, rest: str, depth: int | None) -> Iterator[tuple[str, Row]]:
    count = f" ({part.alike} alike)" if part.alike > 1 else ""
    name = part.name if part is whole else f"{part.name}{count}  {part.kind}"
    parameters = show_count(part.parameters) if part.parameters else f"= {show_count(part.tied)}" if part.tied else "-"
    cells = (
        f"{first}{name}",
        parameters,
        show_count(part.active) if part.active != part.parameters else "",
        show_count(part.flops) if part.flops else "-",
        f"{part.flops / whole.flops:.1%}" if part.flops and whole.flops else "",
        show_bytes(part.kept) if part.kept else "-",
        show_shapes(part.gives, 1),
    )
    yield ("yellow" if part.note else "bold" if part is whole else ""), cells
    if depth == 0:
        return
    for place, inner in enumerate(part.parts):
        is_last = place == len(part.parts) - 1
        branch, below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield from _rows(inner, whole, rest + branch, rest + below, None if depth is None else depth - 1)
