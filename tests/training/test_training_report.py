"""The report of a training run: what its page shows in a browser, what is counted, and when it is written."""

import json
import logging
import math
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from headless_page import CHROMIUM, Element, act, open_page, read_elements
from torch import nn
from training_models import Net, make_rows

from maquette import Trainer, TrainerCallback
from maquette.training.arguments import TrainingArguments
from maquette.training.report import callback as report_module
from maquette.training.report.callback import ReportCallback, RunRecord, describe_parameters, write_report
from maquette.training.report.curves import read_charts, thin
from maquette.training.report.evaluation_history import Evaluations
from maquette.training.report.parameter_tree import Branch, grow
from maquette.training.report.run_record import Parameter

browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium, which opens the page, is not installed")

STARTED = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"double\" 'single' {{data}} \u2028"
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 202  # of the room for lines in a chart, in its own units


def make_history(steps: int, *, every: int = 10) -> list[dict[str, Any]]:
    """A log with three values at each of its steps, and evaluations in between."""
    draw, history = random.Random(0), []
    for step in range(1, steps + 1):
        where = {"step": step, "epoch": step / steps * 3}
        loss = 3 * math.exp(-3 * step / steps) + draw.random() / 10
        history.append({**where, "loss": loss, "learning_rate": 5e-5 * step / steps, "grad_norm": draw.random()})
        if step % every == 0:
            history.append({**where, "eval_loss": 1 + draw.random(), "eval_f1": draw.random(), "eval_runtime": 2.5})
    return history


def make_record(**known: Any) -> RunRecord:
    return RunRecord("Model", STARTED, 75.0, **known)


def write(tmp_path: Path, **known: Any) -> Path:
    return write_report(make_record(**known), tmp_path / "report.html")


def read(tmp_path: Path, **known: Any) -> Element:
    return read_elements(write(tmp_path, **known).read_text(encoding="utf-8"))


def charts(page: Element) -> dict[str, Element]:
    return {figure.one("h3").text: figure for figure in page.all("figure")}


def curves(figure: Element) -> list[list[tuple[float, float]]]:
    """Give the points of every line of a chart."""
    paths = [path["d"] for path in figure.all("path", cls="curve")]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)] for path in paths]


def section(page: Element, name: str) -> Element:
    return next(each for each in page.all("section") if each["aria-labelledby"] == name)


def cells(table: Element) -> list[list[str]]:
    return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in table.all("tr")]


# Curves --------------------------------------------------------------------------------------------------------------


@browser
@pytest.mark.parametrize("options", [(), ("--blink-settings=preferredColorScheme=0",), ("--window-size=400,800",)])
def test_every_value_is_a_point_of_a_curve_in_a_browser(tmp_path: Path, options: tuple[str, ...]) -> None:
    history = make_history(300, every=50)
    speeds = [(step, 100.0 + step % 7) for step in range(10, 301, 10)]
    opened = open_page(write(tmp_path, history=history, throughput=speeds), *options)
    assert opened.console == []
    found = {name: [len(line) for line in curves(figure)] for name, figure in charts(opened.page).items()}
    assert found == {"Loss": [300, 6], "F1": [6], "Learning rate": [300], "Gradient norm": [300], "Throughput": [30]}


@browser
def test_points_lie_where_their_values_are(tmp_path: Path) -> None:
    """In units of the drawing, x and y are straight functions of step and value, y upside down."""
    history = make_history(200)
    loss = [entry["loss"] for entry in history if "loss" in entry]
    [line] = curves(charts(open_page(write(tmp_path, history=history)).page)["Gradient norm"])
    norms = [entry["grad_norm"] for entry in history if "loss" in entry]
    x, y = np.array(line).T
    slope, start = np.polyfit(norms, y, 1)
    assert slope < 0
    np.testing.assert_allclose(y, slope * np.array(norms) + start, atol=0.06)  # they are written with one decimal
    np.testing.assert_allclose(np.diff(x), (x[-1] - x[0]) / 199, atol=0.11)
    assert x[0] == LEFT and y.min() >= TOP and y.max() <= BOTTOM
    training = curves(charts(open_page(write(tmp_path, history=history)).page)["Loss"])[0]
    assert int(np.nanargmin([y for _, y in training])) == int(np.argmax(loss))


@browser
def test_the_axis_turns_logarithmic_and_back(tmp_path: Path) -> None:
    history = [{"step": step, "loss": 10.0**-step} for step in range(6)] + [{"step": 6, "loss": 0.0}]
    page = write(tmp_path, history=history)
    press = "document.querySelector('button').click();"
    logarithmic, back = act(page, press).page, act(page, press * 2).page
    [line] = curves(charts(logarithmic)["Loss"])
    assert len(line) == 6  # zero has no place there
    np.testing.assert_allclose(np.diff([y for _, y in line]), (line[-1][1] - line[0][1]) / 5, atol=0.11)
    assert logarithmic.one("button")["aria-pressed"] == "true"
    assert (len(curves(charts(back)["Loss"])[0]), back.one("button")["aria-pressed"]) == (7, "false")


@browser
@pytest.mark.parametrize(
    ("script", "shows"),
    [
        ("", "step 100 training 7.5 evaluation 2"),
        ("press('Home')", "step 1 training 3.25 evaluation 1 at 10"),
        ("press('Home'); press('ArrowRight'); press('ArrowRight')", "step 10 training 4 at 7 evaluation 1"),
        ("press('ArrowLeft'); press('Home'); press('End')", "step 100 training 7.5 evaluation 2"),
        ("point(0)", "step 1 training 3.25 evaluation 1 at 10"),
        ("point(1)", "step 100 training 7.5 evaluation 2"),
        ("point(0); svg.dispatchEvent(new PointerEvent('pointerleave'))", "step 100 training 7.5 evaluation 2"),
    ],
)
def test_values_are_read_with_pointer_and_keys(tmp_path: Path, script: str, shows: str) -> None:
    history = [{"step": 1, "loss": 3.25}, {"step": 7, "loss": 4.0}, {"step": 100, "loss": 7.5}]
    history += [{"step": 10, "eval_loss": 1.0}, {"step": 100, "eval_loss": 2.0}]
    start = """
        const svg = document.querySelector("svg"), box = svg.getBoundingClientRect();
        const press = key => svg.dispatchEvent(new KeyboardEvent("keydown", {key, cancelable: true}));
        const point = share => svg.dispatchEvent(
            new PointerEvent("pointermove", {clientX: box.left + share * box.width}));
    """
    opened = act(write(tmp_path, history=history), start + script)
    assert opened.console == []
    assert " ".join(opened.page.one(cls="legend").text.split()) == shows


@browser
def test_what_is_no_finite_number_is_said_and_marked(tmp_path: Path) -> None:
    """The curve has a gap there, and a cross above it; a value between two gaps is a dot."""
    values = [3.0, 2.0, math.nan, 1.5, math.inf, -math.inf, 1.0, 0.5] + [0.25] * 60
    history = [{"step": step, "loss": value} for step, value in enumerate(values, 1)]
    opened = open_page(write(tmp_path, history=history))
    assert opened.console == []
    figure = charts(opened.page)["Loss"]
    path = figure.one("path", cls="curve")["d"]
    assert (path.count("M"), path.count("L")) == (3, 62)
    assert not re.search("nan|inf", path, re.IGNORECASE)
    assert len(figure.all("circle")) == 1
    assert figure.one("path", cls="cross")["d"].count("M") == 3
    assert figure.one(cls="bad").text == (
        "Training: NaN at step 3, the first of 3 values that are no finite numbers, marked with a cross."
    )
    assert [row[1] for row in cells(figure.one("table"))[3:7]] == ["NaN", "1.5", "∞", "-∞"]


@browser
@pytest.mark.parametrize("values", [[math.nan] * 3, [0.0], [1e-12, 1e-12], [1e300, -1e300], [5]])
def test_odd_curves_break_nothing(tmp_path: Path, values: list[float]) -> None:
    history = [{"step": step, "loss": value} for step, value in enumerate(values)]
    opened = act(write(tmp_path, history=history), "document.querySelector('button').click()")
    assert opened.console == []
    drawn = [each for each in opened.page.one("svg").walk() if each.tag in ("path", "line", "text", "circle")]
    assert drawn
    assert not [
        each for each in drawn if re.search("NaN|Infinity|undefined", " ".join(map(str, each.attributes.values())))
    ]


@browser
def test_an_empty_run_says_so(tmp_path: Path) -> None:
    opened = open_page(write(tmp_path))
    assert opened.console == []
    assert opened.page.all("figure") == []
    words = " ".join(opened.page.one("main").text.split())
    for part in ("Nothing was logged", "not evaluated", "No arguments", "No parameters"):
        assert part in words


def test_a_long_run_is_a_small_page(tmp_path: Path) -> None:
    history = make_history(10_000)
    history[5_000]["loss"] = spike = 77.25
    speeds = [(step, float(step)) for step in range(1, 10_001)]
    path = write(tmp_path, history=history, throughput=speeds)
    assert path.stat().st_size < 300_000
    data = json.loads(read_elements(path.read_text(encoding="utf-8")).all("script")[0].text)
    logged = {name: [entry[name] for entry in history if name in entry] for name in ("loss", "eval_f1", "grad_norm")}
    drawn = {chart["title"]: chart["lines"][0]["y"] for chart in data}
    for title, name in [("Loss", "loss"), ("F1", "eval_f1"), ("Gradient norm", "grad_norm")]:
        assert 500 < len(drawn[title]) <= 1000
        ends = [[min(part), max(part), part[0], part[-1]] for part in (drawn[title], logged[name])]
        np.testing.assert_allclose(*ends, rtol=1e-5)
    assert spike in drawn["Loss"]


def test_many_charts_are_a_small_page(tmp_path: Path) -> None:
    names = [f"eval_class_{number}" for number in range(60)]
    history = [{"step": step, **dict.fromkeys(names, step / 7)} for step in range(2_000)]
    page = read(tmp_path, history=history)
    assert len(page.all("figure")) == 60
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


@pytest.mark.parametrize("count", [3, 10, 100, 101, 1000])
def test_thinned_points_are_some_of_the_points(count: int) -> None:
    draw = random.Random(count)
    points = [(step, draw.choice([draw.gauss(0, 1), math.nan, math.inf])) for step in range(count)]
    kept = thin(points, 100)
    assert len(kept) <= 100
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})
    assert all(points[step] == (step, value) or math.isnan(value) for step, value in kept)
    assert {0, count - 1} <= {step for step, _ in kept}
    finite = [{value for _, value in some if math.isfinite(value)} for some in (kept, points)]
    assert [max(some, default=None) for some in finite] == [max(finite[1], default=None)] * 2
    assert [min(some, default=None) for some in finite] == [min(finite[1], default=None)] * 2
    assert sum(math.isnan(value) for _, value in kept) or not sum(math.isnan(value) for _, value in points)


def test_values_and_their_evaluation_share_a_chart() -> None:
    history = [
        {"step": 1, "loss": 1, "accuracy": 0.5, "my_own": 3, "epoch": 0.1, "note": "words"},
        {"step": 1, "eval_loss": 2, "eval_accuracy": 0.25, "eval_runtime": 9, "eval_samples_per_second": 8},
        {"step": 1, "train_runtime": 5, "train_loss": 4, "total_flos": 1},
    ]
    assert {chart.title: [line.label for line in chart.lines] for chart in read_charts(history)} == {
        "Loss": ["training", "evaluation"],
        "Accuracy": ["training", "evaluation"],
        "My own": ["training"],
    }
    several = [{"step": 1, "loss": 1}, {"step": 1, "eval_news_loss": 2}, {"step": 1, "eval_talk_loss": 3}]
    [chart] = read_charts(several)
    assert [line.label for line in chart.lines] == ["training", "evaluation, news", "evaluation, talk"]


# Words and tables ----------------------------------------------------------------------------------------------------


@browser
def test_nothing_that_comes_from_a_run_is_obeyed(tmp_path: Path) -> None:
    record = RunRecord(
        HOSTILE,
        STARTED,
        1.0,
        arguments={HOSTILE: HOSTILE, "odd": "\ud800"},
        defaults={"odd": ""},
        history=[{"step": 1, "epoch": 1.0, HOSTILE: 0.5}, {"step": 1, "eval_" + HOSTILE: 0.25}],
        parameters=[Parameter(HOSTILE, (2,), 2, HOSTILE, True)],
        environment={HOSTILE: HOSTILE},
        note=HOSTILE,
    )
    opened = open_page(write_report(record, tmp_path / "report.html"))
    assert opened.console == []
    page = opened.page
    assert len(page.all("script")) == 2 and page.all("img") == []
    assert page.one("h1").text == HOSTILE
    assert page.one(cls="note").text == HOSTILE
    assert [HOSTILE, HOSTILE, ""] in cells(section(page, "arguments").all("table")[0])
    assert HOSTILE in section(page, "environment").one("dt").text
    assert HOSTILE.replace("_", " ") in section(page, "evaluation").one("thead").text
    assert len(page.one("figure").all("path", cls="curve")) == 2


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, history=make_history(20))
    page = read_elements(path.read_text(encoding="utf-8"))
    asking = [(each.tag, name) for each in page.walk() for name in each.attributes if name in {"src", "href", "action"}]
    assert asking == [("link", "href")] and page.one("link")["href"] == "data:,"
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", path.read_text(encoding="utf-8")))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nothing fetches
    policies = [meta["content"] for meta in page.all("meta") if meta.attributes.get("http-equiv")]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'; ")


def test_the_page_reads_without_eyes(tmp_path: Path) -> None:
    parameters = describe_parameters(nn.Linear(2, 3))
    page = read(tmp_path, history=make_history(20), arguments={"seed": 1}, parameters=parameters)
    assert page.one("html")["lang"] == "en"
    headings = [int(each.tag[1]) for each in page.walk() if re.fullmatch("h[1-6]", each.tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    identities = [each["id"] for each in page.walk() if "id" in each.attributes]
    assert len(identities) == len({*identities})
    assert {each["aria-labelledby"] for each in page.all("section")} <= {*identities}
    for figure in page.all("figure"):
        assert figure.one("table").all("th") and figure.one("h3").text
    for cell in page.all("th"):
        assert cell["scope"] in ("col", "row")


@browser
def test_a_drawn_curve_says_in_words_what_it_shows(tmp_path: Path) -> None:
    history = [{"step": 1, "loss": 2.5}, {"step": 9, "loss": 0.5}, {"step": 9, "eval_loss": 0.75}]
    drawing = open_page(write(tmp_path, history=history)).page.one("svg")
    assert (drawing["role"], drawing["tabindex"]) == ("img", "0")
    assert drawing["aria-label"] == (
        "Loss by step: training from 2.5 at step 1 to 0.5 at step 9; evaluation from 0.75 at step 9 to 0.75 at step 9"
    )


def _luminance(color: str) -> float:
    """The relative luminance of a colour, after WCAG 2.2."""
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_are_told_apart(tmp_path: Path, scheme: int) -> None:
    """WCAG 2.2: 4.5 between words and what they stand on (1.4.3), 3 between curves and theirs (1.4.11)."""
    style = read(tmp_path).one("style").text
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colors = dict(re.findall(r"--([\w-]+): (#\w{6});", block))
    pairs = [(ink, under, 4.5) for ink in ("ink", "quiet") for under in ("paper", "card")]
    pairs += [("good-ink", "good", 4.5), ("ink", "good", 4.5), ("warn-ink", "warn", 4.5)]
    pairs += [(line, "card", 3.0) for line in ("first", "second", "third", "fourth")]
    for ink, under, least in pairs:
        low, high = sorted((_luminance(colors[ink]), _luminance(colors[under])))
        assert (high + 0.05) / (low + 0.05) >= least, (ink, under)


@pytest.mark.parametrize(
    ("arguments", "metric", "best"),
    [
        ({}, "loss", np.nanargmin),
        ({"metric_for_best_model": "f1"}, "f1", np.nanargmax),
        ({"metric_for_best_model": "eval_f1", "greater_is_better": True}, "f1", np.nanargmax),
        ({"metric_for_best_model": "f1", "greater_is_better": False}, "f1", np.nanargmin),
        ({"metric_for_best_model": "no_such", "greater_is_better": True}, "loss", np.nanargmin),
    ],
)
def test_the_best_evaluation_is_marked(
    tmp_path: Path, arguments: dict[str, Any], metric: str, best: Callable[[list[float]], int]
) -> None:
    history = make_history(500, every=25)
    history[25]["eval_loss"] = math.nan  # the first evaluation; NaN is never the best
    rows = [entry for entry in history if "eval_loss" in entry]
    expected = rows[int(best([entry[f"eval_{metric}"] for entry in rows]))]
    table = section(read(tmp_path, history=history, arguments=arguments), "evaluation").one("table")
    marked = table.one("tr", cls="best").all("th")[0].text
    assert marked == f"{expected['step']} best"
    assert table.one("caption").text.endswith(metric)
    assert [row[0].split()[0] for row in cells(table)[1:]] == [str(row["step"]) for row in rows]


def test_a_long_table_of_evaluations_keeps_the_best(tmp_path: Path) -> None:
    history = [{"step": step, "eval_loss": abs(step - 777) + 1.0} for step in range(1, 3001)]
    table = section(read(tmp_path, history=history), "evaluation").one("table")
    rows = cells(table)[1:]
    assert len(rows) <= 101
    assert (rows[0][0], rows[-1][0]) == ("1", "3,000")
    assert table.one("tr", cls="best").all("th")[0].text == "777 best"
    assert "of 3,000 evaluations" in table.one("caption").text


def test_nothing_measured_that_is_finite_is_best() -> None:
    nothing = Evaluations.read([{"step": 1, "eval_loss": math.nan}], {})
    assert len(nothing.rows) == 1 and nothing.best is None


def test_arguments_that_were_chosen_come_first(tmp_path: Path) -> None:
    arguments = {"seed": 42, "learning_rate": 0.5, "bf16": False, "hub_token": "hf_abc", "output_dir": "runs/one"}
    defaults = {"seed": 42, "learning_rate": 5e-5, "bf16": False, "hub_token": None}
    part = section(read(tmp_path, arguments=arguments, defaults=defaults), "arguments")
    chosen, others = part.all("table")
    assert cells(chosen)[1:] == [
        ["learning_rate", "0.5", "5e-05"],
        ["hub_token", "(not shown)", "None"],
        ["output_dir", "runs/one", ""],
    ]
    assert cells(others)[1:] == [["seed", "42"], ["bf16", "False"]]
    assert part.one("details").one("table") is others


@pytest.mark.parametrize("name", ["hub_token", "push_to_hub_token", "API_KEY", "password", "client_secret"])
def test_secrets_are_not_shown(tmp_path: Path, name: str) -> None:
    nested = {"hub": {name: "s3cr3t"}}
    path = write(tmp_path, arguments={name: "s3cr3t", "include_num_input_tokens_seen": "shown-value", **nested})
    text = path.read_text(encoding="utf-8")
    assert "s3cr3t" not in text and "shown-value" in text and name in text


# The model's parameters ----------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Three blocks that are alike and one that is not, a tied weight, a frozen one, and a half-precision one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        blocks = [nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3)]
        self.layers = nn.ModuleList([*blocks, nn.Sequential(nn.Linear(4, 4, bias=False))])
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float16), requires_grad=False)


def leaves(branch: Branch) -> Iterator[Branch]:
    for each in branch.branches:
        yield from [each] if each.parameter else leaves(each)


def test_parameters_are_those_that_torch_counts() -> None:
    model = Tied()
    described = {each.name: each for each in describe_parameters(model)}
    assert list(described) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        found = described[name]
        assert (found.shape, found.count) == (tuple(parameter.shape), parameter.numel())
        assert (f"torch.{found.dtype}", found.trainable) == (str(parameter.dtype), parameter.requires_grad)


def test_modules_that_are_alike_are_told_once() -> None:
    model = Tied()
    tree = grow(describe_parameters(model))
    numbers = [parameter.numel() for parameter in model.parameters()]
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    assert (tree.count, tree.trainable) == (sum(numbers), sum(trained))
    assert tree.count == sum(branch.count for branch in tree.branches)
    layers = next(branch for branch in tree.branches if branch.name == "layers")
    assert [(branch.name, branch.alike) for branch in layers.branches] == [("0 – 2", 3), ("3.0", 1)]
    alike = sum(parameter.numel() for parameter in model.layers[:3].parameters())
    assert layers.branches[0].count == alike == 3 * sum(leaf.count for leaf in leaves(layers.branches[0]))


def test_other_shapes_or_frozen_ones_are_not_alike() -> None:
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 3), nn.Linear(2, 2), nn.Linear(2, 2)])
    model[4].weight.requires_grad_(False)
    assert [branch.name for branch in grow(describe_parameters(model)).branches] == ["0 – 1", "2", "3", "4"]


def test_the_tree_of_a_page_adds_up(tmp_path: Path) -> None:
    model = Tied()
    part = section(read(tmp_path, parameters=describe_parameters(model)), "parameters")
    top = [each for each in part.one(cls="tree").children if isinstance(each, Element)]
    counts = [int(each.all(cls="count")[0].text.replace(",", "")) for each in top]
    assert sum(counts) == sum(parameter.numel() for parameter in model.parameters())
    assert "1 of them" not in part.one("p").text
    frozen = [row.one(cls="name").text for row in part.all(cls="row") if "frozen" in row.text]
    assert frozen == ["scale frozen"]
    assert "one number  float16" in part.text


def test_a_lazy_module_has_no_shape_yet(tmp_path: Path) -> None:
    parameters = describe_parameters(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)))
    assert [(each.shape, each.count) for each in parameters] == [(None, 0), (None, 0), ((2, 3), 6), ((2,), 2)]
    assert read(tmp_path, parameters=parameters).text.count("no shape yet") == 2


def test_reading_a_report_brings_no_framework(run_fresh: Callable[..., str]) -> None:
    code = (
        "import sys, maquette.training.report.callback; print(sorted({'torch', 'rich', 'accelerate'} & {*sys.modules}))"
    )
    assert run_fresh(code).strip() == "[]"


# Writing it ----------------------------------------------------------------------------------------------------------


def test_an_older_page_is_replaced_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, note="the first")

    def full(_: Path) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space"):
        patched.setattr("maquette.storage.transaction._sync", full)
        write(tmp_path, note="the second")
    assert "the first" in path.read_text(encoding="utf-8")
    assert write_report(make_record(note="the third"), str(path)) == path
    assert "the third" in path.read_text(encoding="utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


class Clock:
    """A clock that only goes when it is told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


def train(callback: Any, folder: Path, clock: Clock, *, steps: int = 4, stop: int = 4, **known: Any) -> Any:
    """Go through a run: half a second a step, and ten for the evaluation and the save after every second one."""
    state = SimpleNamespace(global_step=0, max_steps=steps, epoch=0.0, num_train_epochs=1, log_history=[])
    state.is_world_process_zero = known.pop("zero", True)
    args = TrainingArguments(folder, **known)
    common = {"model": nn.Linear(3, 2)}

    def log(**values: float) -> None:
        state.log_history.append({"step": state.global_step, "epoch": state.epoch, **values})
        callback.on_log(args, state, None, logs=values, **common)

    callback.on_train_begin(args, state, None, **common)
    while state.global_step < stop:
        clock.now += 0.5
        state.global_step += 1
        state.epoch = state.global_step / steps
        callback.on_step_end(args, state, None, rows=8, **common)
        if state.global_step % 2 == 0:
            log(loss=1 / state.global_step)
            clock.now += 10
            log(eval_loss=2 / state.global_step)
            callback.on_evaluate(args, state, None, metrics={}, **common)
            clock.now += 10
            callback.on_save(args, state, None, **common)
    return args, state


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(report_module, "time", made)
    return made


def test_the_callback_writes_the_report(tmp_path: Path, clock: Clock) -> None:
    callback = ReportCallback()
    args, state = train(callback, tmp_path / "out", clock, learning_rate=0.5)
    assert not (tmp_path / "out").exists()
    callback.on_train_end(args, state, None)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = read_elements(text)
    assert page.one("h1").text == "Linear"
    assert {"Loss", "Throughput"} == {*charts(page)}
    # 8 samples a step and 2 steps a second, whatever the evaluation and the save took
    assert [row[1] for row in cells(charts(page)["Throughput"].one("table"))[1:]] == ["16", "16"]
    assert "0:00:42" in page.one("header").text
    assert page.all(cls="note") == []
    assert [row[0] for row in cells(section(page, "arguments").all("table")[0])[1:]] == ["output_dir", "learning_rate"]
    assert "8 parameters in float32, all trainable." in section(page, "parameters").text
    device = dict(zip(*([e.text for e in section(page, "environment").all(tag)] for tag in ("dt", "dd")), strict=True))
    assert (device["torch"], device["device"]) == (torch.__version__, "cpu")
    callback.close()
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(("end", "says"), [("on_train_end", "ended early"), ("close", "was cut short")])
def test_a_run_that_ends_early_has_its_report(tmp_path: Path, clock: Clock, end: str, says: str) -> None:
    callback = ReportCallback(tmp_path / "elsewhere.html")
    args, state = train(callback, tmp_path, clock, stop=3)
    callback.close() if end == "close" else callback.on_train_end(args, state, None)
    page = read_elements((tmp_path / "elsewhere.html").read_text(encoding="utf-8"))
    assert says in page.one(cls="note").text and "step 3 of 4" in page.one(cls="note").text


def test_other_processes_write_nothing(tmp_path: Path, clock: Clock) -> None:
    callback = ReportCallback()
    args, state = train(callback, tmp_path, clock, zero=False)
    callback.on_train_end(args, state, None)
    callback.close()
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_stops_nothing(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("a file is no folder")
    callback = ReportCallback()
    args, state = train(callback, tmp_path / "file", clock)
    with caplog.at_level(logging.WARNING):
        callback.on_train_end(args, state, None)
    [record] = caplog.records
    assert "could not be written" in record.message and "report.html" in record.message


# Written by the trainer -----------------------------------------------------------------------------------------------


def make_trainer(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Trainer:
    args = TrainingArguments(folder, **{"logging_steps": 2, "num_train_epochs": 2, "save_strategy": "no", **options})
    return Trainer(Net(), args, train_dataset=rows, eval_dataset=rows[:8])


@browser
def test_the_trainer_leaves_a_page_with_every_entry_of_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(tmp_path / "out", make_rows(40), eval_strategy="epoch", learning_rate=0.02)
    trainer.train()
    opened = open_page(tmp_path / "out" / "report.html")
    assert opened.console == []
    history = trainer.state.log_history
    drawn = {name: [len(curve) for curve in curves(chart)] for name, chart in charts(opened.page).items()}
    counts = [sum(name in entry for entry in history) for name in ("loss", "eval_loss", "learning_rate", "grad_norm")]
    assert counts == [5, 2, 5, 5]
    assert drawn["Loss"] == counts[:2]
    assert (drawn["Learning rate"], drawn["Gradient norm"], drawn["Throughput"]) == ([5], [5], [5])
    assert opened.page.one("h1").text == "Net"
    chosen = [row[0] for row in cells(section(opened.page, "arguments").all("table")[0])[1:]]
    assert set(chosen) == {
        "output_dir", "logging_steps", "num_train_epochs", "save_strategy", "eval_strategy", "learning_rate"
    }  # fmt: skip
    shown = capsys.readouterr().err  # no terminal here: a line for every entry
    assert len([line for line in shown.splitlines() if line.startswith("step ")]) == len(history)


def test_a_run_that_fails_leaves_its_report_too(tmp_path: Path) -> None:
    class Failing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                raise RuntimeError("the power went out")

    trainer = make_trainer(tmp_path / "out", make_rows(40), disable_tqdm=True)
    trainer.add_callback(Failing())
    with pytest.raises(RuntimeError, match="the power went out"):
        trainer.train()
    page = read_elements((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "cut short at step 3 of 10" in page.one(cls="note").text
