"""The HTML of a run's report: one page that asks for nothing from elsewhere.

The words and tables are written here, so that they can be read without scripts too; the curves are drawn in the browser
by `page.js` from data that is embedded as JSON. Everything that comes from a run is escaped.
"""

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from maquette.storage.html_page import fill_page
from maquette.training.report.curves import Chart, Line, read_charts, thin, thin_all
from maquette.training.report.evaluation_history import Evaluations
from maquette.training.report.figures import show_duration, show_number
from maquette.training.report.parameter_tree import Branch, grow
from maquette.training.report.run_record import RunRecord

MOST_ROWS = 100  # of a table
LONGEST_VALUE = 2_000  # letters of one argument
SECRET = re.compile(r"(^|_)(token|secret|password|passwd|api_key|access_key|credentials?)$", re.IGNORECASE)
CAMEL_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")  # where a class's long name may be broken
NOTHING_LOGGED = "<p class='empty'>Nothing was logged in this run, so there are no curves.</p>"
NOTHING_EVALUATED = "<p class='empty'>The model was not evaluated in this run.</p>"

escape = html.escape


def render_page(record: RunRecord) -> str:
    """Write a run as a whole HTML page."""
    charts = read_charts(record.history, record.throughput)
    drawn = thin_all(charts)
    evaluations = Evaluations.read(record.history, record.arguments)
    parts = {
        "title": escape(record.title),
        "heading": CAMEL_HUMP.sub("<wbr>", escape(record.title)),
        "started": _started(record),
        "note": f"<p class='note' role='note'>{escape(record.note)}</p>" if record.note else "",
        "facts": _facts(record, evaluations),
        "charts": "".join(map(_chart, charts)) or NOTHING_LOGGED,
        "evaluations": _evaluations(evaluations),
        "arguments": _arguments(record),
        "modules": _modules(record),
        "texts": _texts(record),
        "parameters": _parameters(record),
        "environment": _pairs(record.environment),
    }
    return fill_page("maquette.training.report", parts, [_drawing(chart) for chart in drawn])


def _started(record: RunRecord) -> str:
    when = f"{record.started:%d %B %Y, %H:%M}".lstrip("0")
    device = f" · {escape(record.environment['device'])}" if "device" in record.environment else ""
    return f"<time datetime='{record.started.isoformat()}'>{when}</time> · {show_duration(record.seconds)}{device}"


# Tables --------------------------------------------------------------------------------------------------------------


def _table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "numbers", best: int | None = None
) -> str:
    """Write a table of texts, which are escaped here; `best` is the row to mark, `kind` is `"numbers"` or `"words"`."""
    columns = "".join(f"<th scope='col'>{escape(name)}</th>" for name in head)
    body = []
    for place, (first, *others) in enumerate(rows):
        badge = " <span class='badge'>best</span>" if place == best else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        marked = " class='best'" if place == best else ""
        body.append(f"<tr{marked}><th scope='row'>{escape(first)}{badge}</th>{cells}</tr>")
    return (
        f"<div class='scroll'><table class='{kind}'>{_caption(caption)}"
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _caption(text: str) -> str:
    return f"<caption>{escape(text)}</caption>" if text else ""


def _pairs(values: Mapping[str, str]) -> str:
    pairs = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f"<dl class='facts'>{''.join(pairs)}</dl>"


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _choose(count: int, *wanted: int) -> list[int]:
    """Choose the rows of a table that are shown: evenly, the first, the last, and those that are wanted."""
    shown = {round(place * (count - 1) / (MOST_ROWS - 1)) for place in range(MOST_ROWS)} if count > MOST_ROWS else None
    return sorted(shown | {*wanted}) if shown else list(range(count))


def _some(shown: int, count: int, what: str) -> str:
    return f"{shown:,} of {count:,} {what}" if shown < count else f"{count:,} {what}"


# What happened -------------------------------------------------------------------------------------------------------


def _facts(record: RunRecord, evaluations: Evaluations) -> str:
    """Write the figures that are looked for first."""
    facts: dict[str, str] = {}
    if steps := max((entry["step"] for entry in record.history if "step" in entry), default=0):
        facts["steps"] = f"{steps:,}"
    if epochs := max((entry["epoch"] for entry in record.history if entry.get("epoch") is not None), default=0):
        facts["epochs"] = f"{epochs:.4g}"
    if losses := [entry["loss"] for entry in record.history if "loss" in entry]:
        facts["last training loss"] = show_number(losses[-1])
    if best := evaluations.best:
        metric = evaluations.metric
        facts[f"best evaluation {evaluations.plain(metric)}"] = show_number(best.results[metric])
    if rates := sorted(rate for _, rate in record.throughput):
        facts["samples per second"] = show_number(rates[len(rates) // 2])
    if record.parameters:
        facts["parameters"] = f"{sum(parameter.count for parameter in record.parameters):,}"
    return _pairs(facts) if facts else ""


def _evaluations(evaluations: Evaluations) -> str:
    rows = evaluations.rows
    if not rows:
        return NOTHING_EVALUATED
    best = rows.index(evaluations.best) if evaluations.best else None
    shown = _choose(len(rows), *([best] if best is not None else []))
    caption = _some(len(shown), len(rows), "evaluations" if len(rows) > 1 else "evaluation")
    if best is not None:
        kind = "highest" if evaluations.greater_is_better else "lowest"
        caption += f"; the best has the {kind} {evaluations.plain(evaluations.metric)}"
    head = ["step", "epoch", *map(evaluations.plain, evaluations.metrics)]
    cells = [
        [
            f"{row.step:,}",
            "" if row.epoch is None else f"{row.epoch:.2f}",
            *(show_number(row.results[name]) if name in row.results else "" for name in evaluations.metrics),
        ]
        for row in (rows[place] for place in shown)
    ]
    return _table(caption, head, cells, best=shown.index(best) if best is not None else None)


# Curves --------------------------------------------------------------------------------------------------------------


def _chart(chart: Chart) -> str:
    """Write the frame of a chart, which the script draws into, and its values as a table."""
    bad = [_bad(line) for line in chart.lines if line.bad]
    notes = "".join(f"<p class='bad'>{escape(text)}</p>" for text in bad)
    steps = sorted({step for line in chart.lines for step, _ in thin(line.points, MOST_ROWS)})
    values = [dict(line.points) for line in chart.lines]
    rows = [[f"{step:,}", *(show_number(value[step]) if step in value else "" for value in values)] for step in steps]
    whole = len({step for line in chart.lines for step, _ in line.points})
    table = _table(_some(len(steps), whole, "steps"), ["step", *(line.label for line in chart.lines)], rows)
    return (
        f"<figure class='chart'><figcaption><h3>{escape(chart.title)}</h3></figcaption>{notes}"
        f"<div class='plot'></div>{_folded(f'{chart.title} as a table', table)}</figure>"
    )


def _bad(line: Line) -> str:
    (step, value), count = line.bad[0], len(line.bad)
    others = f", the first of {count:,} values that are no finite numbers, marked" if count > 1 else ", marked"
    return f"{line.label.capitalize()}: {show_number(value)} at step {step:,}{others} with a cross."


def _drawing(chart: Chart) -> dict[str, Any]:
    """Give what the script needs: steps and values, those that JSON does not have as texts."""
    lines = [
        {"label": line.label, "x": [step for step, _ in line.points], "y": [_short(value) for _, value in line.points]}
        for line in chart.lines
    ]
    return {"title": chart.title, "about": _about(chart), "lines": lines}


def _short(value: float) -> float | str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return float(f"{value:.6g}")


def _about(chart: Chart) -> str:
    """Say in words what a chart shows, for those who do not see it."""
    parts = []
    for line in chart.lines:
        (start, first), (end, last) = line.points[0], line.points[-1]
        parts.append(f"{line.label} from {show_number(first)} at step {start} to {show_number(last)} at step {end}")
    return f"{chart.title} by step: {'; '.join(parts)}"


# Settings and the model ----------------------------------------------------------------------------------------------


def _arguments(record: RunRecord) -> str:
    """Write what somebody chose first, and the rest folded."""
    values = {name: _show(name, value) for name, value in record.arguments.items()}
    if not values:
        return "<p class='empty'>No arguments were recorded.</p>"
    usual = {name: _show(name, value) for name, value in record.defaults.items()}
    chosen = [name for name in values if record.defaults and values[name] != usual.get(name)]
    rest = [name for name in values if name not in chosen]
    parts = []
    if chosen:
        rows = [[name, values[name], usual.get(name, "")] for name in chosen]
        parts.append(_table("Different from the default", ["argument", "value", "default"], rows, kind="words"))
    if rest:
        title = f"{len(rest):,} {'left at their defaults' if record.defaults else 'arguments'}"
        rows = [[name, values[name]] for name in rest]
        parts.append(_folded(title, _table("", ["argument", "value"], rows, kind="words")))
    return "".join(parts)


def _show(name: str, value: Any) -> str:
    value = _hide(name, value)
    text = value if isinstance(value, str) and value else repr(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + " …"


def _hide(name: Any, value: Any) -> Any:
    """Leave out what its name says is a secret, in dictionaries too."""
    if value and SECRET.search(str(name)):
        return "(not shown)"
    return {key: _hide(key, inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _modules(record: RunRecord) -> str:
    """Write the section with the x-ray's tree; nothing where there is none."""
    seen = record.xray
    if seen is None or seen.tree is None:
        return ""
    from maquette.workshop.xray.page import draw_tree
    from maquette.workshop.xray.terminal import show_count, show_shapes

    flops = show_count(seen.tree.flops)
    about = f"A forward on {show_shapes(seen.tree.takes)} takes {flops} floating-point operations"
    said = f"{about}, counted without running them." if seen.tree.flops else "It could not be run without memory."
    heading = "<section aria-labelledby='modules'><h2 id='modules'>Modules</h2>"
    return f"{heading}<p>{escape(said)}</p><ul class='modules'>{draw_tree(seen.tree)}</ul></section>"


def _texts(record: RunRecord) -> str:
    """Write the section with what the model wrote along the way; nothing where it was not asked to."""
    prompts = dict.fromkeys(text["prompt"] for text in record.texts)
    if not prompts:
        return ""
    parts = []
    for prompt in prompts:
        written = [text for text in record.texts if text["prompt"] == prompt]
        rows = [[f"{written[n]['step']:,}", _cut(written[n]["text"])] for n in _choose(len(written))]
        parts.append(_table(f"{_cut(prompt)} …", ["step", "text"], rows, kind="words texts"))
    heading = "<section aria-labelledby='texts'><h2 id='texts'>Texts</h2>"
    return f"{heading}<p>What the model wrote along the way, greedily.</p>{''.join(parts)}</section>"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + " …"


def _parameters(record: RunRecord) -> str:
    tree = grow(record.parameters)
    if not tree.count:
        return "<p class='empty'>No parameters were recorded.</p>"
    types = ", ".join(sorted({parameter.dtype for parameter in record.parameters}))
    share = "all trainable" if tree.trainable == tree.count else f"{tree.trainable:,} of them trainable"
    rows = "".join(_branch(branch, tree.count) for branch in tree.branches)
    return f"<p>{tree.count:,} parameters in {escape(types)}, {share}.</p><ul class='tree'>{rows}</ul>"


def _branch(branch: Branch, whole: int) -> str:
    """Write a module with all that is in it, folded, or one parameter."""
    cells = "".join(_cells(branch, whole))
    if branch.parameter:
        return f"<li><div class='row'>{cells}</div></li>"
    inner = "".join(_branch(each, whole) for each in branch.branches)
    return f"<li><details><summary class='row'>{cells}</summary><ul>{inner}</ul></details></li>"


def _cells(branch: Branch, whole: int) -> Iterator[str]:
    share = branch.count / whole
    alike = f" <small>{branch.alike} alike</small>" if branch.alike > 1 else ""
    frozen = "" if branch.trainable else " <small>frozen</small>"
    yield f"<span class='name'>{escape(branch.name)}{alike}{frozen}</span>"
    yield f"<span class='shape'>{escape(_shape(branch))}</span>"
    yield f"<span class='count'>{branch.count:,}</span>"
    yield (
        f"<span class='share'><span class='bar' aria-hidden='true'><i style='width:{share:.2%}'></i></span>"
        f"{f'{share:.1%}' if share >= 0.001 or not share else '&lt; 0.1%'}</span>"
    )


def _shape(branch: Branch) -> str:
    if branch.parameter is None:
        return ""
    shape = branch.parameter.shape
    if shape is None:
        return "no shape yet"
    return f"{' × '.join(map(str, shape)) or 'one number'}  {branch.parameter.dtype}"
