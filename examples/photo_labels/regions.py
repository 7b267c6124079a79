"""The two photographs, what is where in them, and which part is for learning."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images
from tiles import TILE

LABELS = ["sky", "water", "trees", "roof", "timber", "petals", "leaves"]
UNKNOWN = 255  # nobody said what is there
PURE = 0.8  # of its pixels a tile's label must have
STEP = 2  # pixels from one place to the next

# Outlines (x, y) by hand, to a few pixels; later ones lie over earlier ones, and "" is for what has no label.
TEMPLE = [
    ("sky", [(0, 0), (640, 0), (640, 196), (0, 196)]),
    ("water", [(20, 284), (72, 284), (78, 300), (74, 318), (25, 322)]),
    ("water", [(330, 238), (418, 238), (425, 246), (500, 246), (506, 216), (546, 212), (549, 262), (560, 284),
               (520, 286), (478, 296), (440, 308), (400, 320), (374, 332), (350, 320), (345, 310), (352, 262)]),
    ("trees", [(590, 140), (616, 135), (640, 150), (640, 427), (318, 427), (336, 390), (352, 362), (375, 336),
               (400, 321), (440, 310), (478, 296), (520, 287), (545, 279), (561, 286), (552, 264), (548, 226),
               (560, 200), (575, 165)]),
    ("trees", [(0, 150), (10, 176), (45, 190), (70, 222), (70, 235), (45, 250), (20, 272), (0, 276)]),
    ("trees", [(0, 300), (20, 315), (30, 345), (70, 345), (100, 340), (126, 332), (150, 335), (165, 353), (205, 368),
               (224, 388), (290, 390), (284, 427), (0, 427)]),
    ("", [(190, 24), (220, 24), (224, 68), (188, 70)]),
    ("roof", [(200, 62), (216, 64), (228, 78), (250, 94), (275, 104), (300, 112), (320, 119), (318, 126), (300, 122),
              (285, 113), (270, 117), (230, 118), (200, 116), (180, 110), (165, 116), (140, 119), (120, 118),
              (97, 114), (97, 108), (125, 102), (150, 94), (175, 82), (190, 70)]),
    ("timber", [(95, 116), (120, 119), (165, 118), (180, 112), (200, 118), (270, 119), (285, 115), (318, 127),
                (310, 132), (295, 138), (294, 160), (262, 158), (230, 157), (188, 156), (178, 160), (122, 162),
                (120, 140), (97, 130)]),
    ("roof", [(84, 170), (105, 162), (125, 160), (178, 158), (188, 155), (230, 156), (262, 157), (295, 160),
              (330, 174), (322, 183), (290, 178), (270, 180), (230, 181), (178, 180), (110, 181), (86, 184)]),
    ("timber", [(100, 184), (178, 181), (270, 181), (318, 184), (318, 226), (327, 228), (327, 238), (290, 242),
                (240, 244), (178, 246), (93, 246), (98, 190)]),
    ("roof", [(62, 270), (75, 258), (93, 247), (178, 247), (240, 245), (290, 243), (328, 238), (352, 250), (350, 258),
              (335, 267), (310, 272), (280, 277), (230, 280), (190, 280), (170, 278), (150, 280), (110, 280),
              (66, 276)]),
    ("timber", [(82, 281), (178, 282), (230, 282), (290, 278), (340, 267), (342, 306), (349, 308), (345, 322),
                (300, 346), (250, 356), (190, 360), (165, 352), (150, 335), (126, 332), (100, 338), (72, 340),
                (73, 325), (80, 318)]),
    ("roof", [(205, 368), (250, 358), (300, 350), (330, 325), (345, 320), (372, 335), (360, 350), (340, 366),
              (328, 370), (318, 360), (300, 374), (280, 382), (240, 388), (222, 386)]),
]  # fmt: skip
DAHLIA = [
    ("leaves", [(0, 0), (640, 0), (640, 427), (0, 427)]),
    ("", [(365, 338), (405, 338), (405, 378), (365, 378)]),
    ("", [(572, 388), (622, 388), (622, 427), (572, 427)]),
    ("petals", [(315, 85), (345, 92), (378, 100), (395, 113), (413, 130), (428, 150), (435, 175), (445, 205),
                (445, 235), (438, 260), (430, 285), (415, 305), (400, 328), (370, 345), (345, 352), (320, 360),
                (290, 358), (255, 350), (225, 335), (200, 315), (185, 290), (170, 260), (168, 225), (170, 195),
                (178, 172), (188, 150), (205, 125), (228, 112), (245, 100), (275, 95)]),
    ("petals", [(288, 427), (290, 405), (305, 393), (335, 380), (348, 375), (362, 382), (385, 378), (415, 380),
                (440, 395), (442, 418), (470, 427)]),
]  # fmt: skip
OUTLINES = {"china.jpg": TEMPLE, "flower.jpg": DAHLIA}
LEARNT = {"china.jpg": (208, 448), "flower.jpg": (308, 640)}  # columns, from and up to; the others are held out


class Place(NamedTuple):
    """A square piece of a photograph, `TILE` pixels on a side, and what it shows."""

    photo: str
    top: int
    left: int
    label: int


def load_photos() -> dict[str, np.ndarray]:
    """Give the photographs, `(height, width, 3)`, by the names of their files."""
    found = load_sample_images()
    return {Path(name).name: image for name, image in zip(found.filenames, found.images, strict=True)}


def draw_map(name: str, shape: tuple[int, int]) -> np.ndarray:
    """Give the number of every pixel's label, `(height, width)`."""
    image = Image.new("L", shape[::-1], UNKNOWN)
    for label, outline in OUTLINES[name]:
        ImageDraw.Draw(image).polygon(outline, fill=LABELS.index(label) if label else UNKNOWN)
    return np.asarray(image)


def find_places(name: str, labels: np.ndarray, columns: tuple[int, int]) -> Iterator[Place]:
    """Give every place between two columns that shows one label, overlapping each other as they may."""
    for label in range(len(LABELS)):
        pure = share_in_tiles(labels[:, slice(*columns)] == label) >= PURE
        for top, left in STEP * np.argwhere(pure[::STEP, ::STEP]):
            yield Place(name, int(top), int(left) + columns[0], label)


def share_in_tiles(mask: np.ndarray) -> np.ndarray:
    """Give, for every place where a tile fits, the share of its pixels that are in the mask."""
    sums = np.pad(mask, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return (sums[TILE:, TILE:] - sums[:-TILE, TILE:] - sums[TILE:, :-TILE] + sums[:-TILE, :-TILE]) / TILE**2


def split() -> tuple[list[Place], list[Place]]:
    """Give the places to learn from, and those held out: from other columns, and none overlaps another."""
    learnt: list[Place] = []
    held_out: list[Place] = []
    for name, photo in load_photos().items():
        labels = draw_map(name, photo.shape[:2])
        start, stop = LEARNT[name]
        learnt += find_places(name, labels, (start, stop))
        others = [(0, start), (stop, photo.shape[1])]
        held_out += keep_apart([place for columns in others for place in find_places(name, labels, columns)])
    return learnt, held_out


def keep_apart(places: list[Place]) -> list[Place]:
    """Take places of one photograph that do not overlap, the rarest label's first, else from the top left on."""
    count = Counter(place.label for place in places)
    taken = np.zeros((max(place.top for place in places) + TILE, max(place.left for place in places) + TILE), bool)
    kept = []
    for place in sorted(places, key=lambda place: (count[place.label], place)):
        own = taken[place.top : place.top + TILE, place.left : place.left + TILE]
        if not own.any():
            own[:] = True
            kept.append(place)
    return kept


def cut(photos: dict[str, np.ndarray], places: list[Place]) -> np.ndarray:
    """Give the tiles, `(places, TILE, TILE, 3)`."""
    return np.stack([photos[name][top : top + TILE, left : left + TILE] for name, top, left, _ in places])
