"""One picture of a training run: how it went, and what is still mistaken for what."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

# Blue and orange are told apart with every kind of colour vision (Okabe and Ito 2008).
BLUE, ORANGE, INK, GREY = "#0072B2", "#D55E00", "#222222", "#767676"
RIGHT = LinearSegmentedColormap.from_list("right", ["#EAF3F9", BLUE])
WRONG = LinearSegmentedColormap.from_list("wrong", ["#FBE3D6", ORANGE])


def draw_training(path: Path, history: dict[str, list[float]], labels: np.ndarray, predicted: np.ndarray):
    """Write a PNG of 2,100 by 960 pixels, to be shown at half that size."""
    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08, wspace=0.06)
    axes = figure.subplot_mosaic([["loss", "matrix"], ["accuracy", "matrix"]], width_ratios=[1.08, 1])
    epochs = range(1, len(history["loss"]) + 1)
    draw_losses(axes["loss"], epochs, history)
    draw_accuracy(axes["accuracy"], epochs, history["accuracy"])
    draw_confusions(axes["matrix"], labels, predicted)
    figure.savefig(path, dpi=200)


def draw_losses(axes: Axes, epochs: range, history: dict[str, list[float]]):
    prepare(axes, "Loss (cross-entropy, nats)")
    for name, label, color in [("loss", "training", ORANGE), ("test_loss", "held out", BLUE)]:
        axes.plot(epochs, history[name], color=color, linewidth=2, marker="o", markersize=3.5, label=label)
    axes.set_yscale("log")
    axes.set_ylim(min(0.01, *history["loss"], *history["test_loss"]), 4)
    axes.set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    axes.yaxis.set_minor_locator(NullLocator())
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.1}
    axes.legend(**place, ncols=2, frameon=False, labelcolor="linecolor", handlelength=1.4)
    axes.tick_params(labelbottom=False)


def draw_accuracy(axes: Axes, epochs: range, accuracy: list[float]):
    prepare(axes, "Accuracy on held-out digits")
    axes.plot(epochs, accuracy, color=BLUE, linewidth=2, marker="o", markersize=3.5)
    axes.annotate(
        f"{accuracy[-1]:.1%}".replace("%", " %"),
        (epochs[-1], accuracy[-1]),
        xytext=(3, -8),
        textcoords="offset points",
        ha="right",
        va="top",
        color=BLUE,
        fontweight="bold",
    )
    axes.set_ylim(0, 1.08)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("epoch", color=INK)


def prepare(axes: Axes, title: str):
    """A title at the left, faint horizontal lines, and no box."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#BBBBBB")
    axes.tick_params(colors=INK, length=0, labelsize=9.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_confusions(axes: Axes, labels: np.ndarray, predicted: np.ndarray):
    """Blue for what is right and orange for mistakes, each cell with its count; empty cells stay empty."""
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (labels, predicted), 1)
    colors = np.ones((10, 10, 3))
    for row, column in np.argwhere(counts):
        scale = RIGHT if row == column else WRONG
        count = counts[row, column]
        colors[row, column] = scale(count / counts.max() if row == column else min(1.0, 0.3 + count / 10))[:3]
        dark = colors[row, column] @ [0.299, 0.587, 0.114] < 0.55
        axes.text(column, row, str(count), ha="center", va="center", fontsize=10, color="white" if dark else INK)
    axes.imshow(colors)
    right, total = np.trace(counts), counts.sum()
    title = f"{right} of {total} held-out digits are read right"
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel("predicted digit", color=INK)
    axes.set_ylabel("true digit", color=INK)
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xticks(np.arange(-0.5, 10), minor=True)
    axes.set_yticks(np.arange(-0.5, 10), minor=True)
    axes.grid(which="minor", color="#E4E4E4", linewidth=0.8)
    axes.tick_params(which="both", length=0, colors=INK, labelsize=9.5)
    axes.spines[:].set_visible(False)
