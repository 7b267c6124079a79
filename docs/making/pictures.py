"""Draw the pictures of packing, layouts, loading and trust as SVG files in docs/images.

Usage: python docs/making/pictures.py

Each has a light background of its own, so it is read on a dark page, too.
"""

from pathlib import Path
from xml.sax.saxutils import escape

FOLDER = Path(__file__).parents[1] / "images"
COLOURS = ("#f3d9c9", "#c9e4cf", "#c9d9ee")  # a row's
EMPTY, CACHE, PLAIN, DONE, STOP = "#eeeeee", "#f0e2b6", "#d8d4ea", "#c9e4cf", "#f3c9c9"


class Picture:
    """Boxes, arrows and words on a light ground; sizes are in pixels."""

    def __init__(self, name: str, title: str, width: int, height: int) -> None:
        self.name = name
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
            'role="img">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L10 5L0 10z" fill="#555"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        ]

    def say(self, x: float, y: float, text: str, *, size: int = 13, anchor: str = "start", bold: bool = False) -> None:
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="#222"{weight}>{escape(text)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, fill: str, *lines: str, size: int = 13) -> None:
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" stroke="#777"/>'
        )
        top = y + height / 2 + size * 0.35 - (len(lines) - 1) * (size + 4) / 2
        for number, line in enumerate(lines):
            is_first = number == 0 and len(lines) > 1
            self.say(x + width / 2, top + number * (size + 4), line, size=size, anchor="middle", bold=is_first)

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#555" stroke-width="1.6" marker-end="url(#tip)"/>'
        )

    def row(self, x: float, y: float, tokens: list[tuple[str, str]], *, side: float = 30) -> None:
        for number, (text, fill) in enumerate(tokens):
            self.box(x + number * side, y, side, 28, fill, text, size=12)

    def write(self) -> None:
        (FOLDER / f"{self.name}.svg").write_text("\n".join([*self.parts, "</svg>", ""]), encoding="utf-8")


ROWS = [list("abcdef"), list("gh"), list("ijk")]


def tokens(row: int, width: int = 6) -> list[tuple[str, str]]:
    """Give a row's letters with its colour, padded to a width."""
    real = [(letter, COLOURS[row]) for letter in ROWS[row]]
    return real + [("", EMPTY)] * (width - len(real))


def draw_packing() -> None:
    picture = Picture("packing", "Packing: a padded batch, its real tokens in one tensor, and the way back", 860, 300)
    picture.say(20, 32, "padded, (batch, length)", bold=True)
    for row in range(3):
        picture.row(20, 48 + row * 34, tokens(row))
    picture.say(20, 172, "18 places, 7 of them padding (grey)", size=12)
    picture.arrow(212, 96, 268, 96)
    picture.say(240, 86, "gather", size=12, anchor="middle")
    picture.say(280, 32, "packed, (tokens,)", bold=True)
    picture.row(280, 82, tokens(0) + tokens(1, 2) + tokens(2, 3), side=27)
    picture.say(280, 134, "11 places: linear layers, norms and dropout run on these", size=12)
    picture.arrow(584, 96, 640, 96)
    picture.say(612, 86, "scatter", size=12, anchor="middle")
    picture.say(652, 32, "padded again", bold=True)
    for row in range(3):
        picture.row(652, 48 + row * 34, [("" if fill != EMPTY else "0", fill) for _, fill in tokens(row)])
    picture.say(20, 216, "attention sees which tokens are one row:", bold=True)
    x = 20
    for row, count in enumerate((6, 2, 3)):
        width = count * 27
        picture.row(x, 246, tokens(row, count), side=27)
        picture.parts.append(
            f'<path d="M{x + 6} 244 C {x + 6} 226, {x + width - 6} 226, {x + width - 6} 244" fill="none" '
            'stroke="#555" stroke-width="1.4"/>'
        )
        x += width + 22
    picture.say(x + 4, 265, "a token never attends to another row's", size=12)
    picture.write()


def draw_layouts() -> None:
    title = (
        "In training the layout packs real tokens; in generation it has one new token for each row, beside the cache"
    )
    picture = Picture("layouts", title, 860, 330)
    picture.say(20, 30, "training, or reading prompts", size=15, bold=True)
    picture.say(20, 56, "input_ids with attention_mask", size=12)
    for row in range(3):
        picture.row(20, 66 + row * 34, tokens(row))
    picture.arrow(130, 172, 130, 204)
    picture.say(140, 192, "lay_out, gather", size=12)
    picture.row(20, 214, tokens(0) + tokens(1, 2) + tokens(2, 3), side=27)
    picture.say(20, 262, "positions", size=12)
    positions = [*range(6), *range(2), *range(3)]
    picture.row(20, 270, [(str(place), "#ffffff") for place in positions], side=27)
    picture.say(20, 318, "places: (tokens,), no padding", size=12)
    picture.parts.append('<line x1="400" y1="20" x2="400" y2="312" stroke="#bbb"/>')
    picture.say(430, 30, "generation, one step", size=15, bold=True)
    picture.say(430, 56, "kept in the cache: keys and values of each row", size=12)
    picture.say(700, 56, "new tokens", size=12)
    for row in range(3):
        letters = ROWS[row]
        picture.row(430, 66 + row * 34, [(letter, CACHE) for letter in letters])
        picture.row(700, 66 + row * 34, [("+", COLOURS[row])])
        picture.arrow(696, 80 + row * 34, 436 + 30 * len(letters), 80 + row * 34)
    picture.say(430, 192, "attention: the new token sees its own row, then joins it", size=12)
    picture.say(430, 262, "positions of the new tokens", size=12)
    picture.row(430, 270, [(str(len(row)), "#ffffff") for row in ROWS])
    picture.row(430, 214, [("+", colour) for colour in COLOURS])
    picture.say(430, 318, "places: (batch, 1); rows keep their different lengths", size=12)
    picture.write()


def draw_loading() -> None:
    picture = Picture("loading", "What from_pretrained reads, and when", 860, 360)
    picture.say(20, 30, "what is read", size=14, bold=True)
    picture.say(330, 30, "what happens", size=14, bold=True)
    picture.say(640, 30, "what may stop it", size=14, bold=True)
    steps = [
        ("a name, or a path", "one folder, or one commit", "no such place"),
        ("config.json", "the configuration is checked", "values that do not fit a field"),
        ("(nothing)", "the constructor runs; drawing is put off", "what the constructor raises"),
        (
            "headers of the safetensors files",
            "each tensor finds its parameter",
            "tensors that are missing or do not fit",
        ),
        ("the weights, mapped, when they are used", "tensors become parameters, uncopied", "(nothing)"),
        ("(nothing)", "what the files did not fill is drawn now", "(nothing)"),
    ]
    for number, (read, happens, stops) in enumerate(steps):
        y = 44 + number * 51
        picture.box(20, y, 270, 38, EMPTY if read == "(nothing)" else CACHE, read)
        picture.box(330, y, 280, 38, COLOURS[2], f"{number + 1}. {happens}")
        if stops != "(nothing)":
            picture.box(640, y, 200, 38, STOP, stops, size=11)
        if read != "(nothing)":
            picture.arrow(292, y + 19, 326, y + 19)
        if number:
            picture.arrow(470, y - 12, 470, y - 2)
    picture.write()


def draw_trust() -> None:
    picture = Picture("trust", "What runs when a folder brings code", 860, 330)
    picture.box(20, 30, 190, 56, CACHE, "A folder with code", "config.json has auto_map", size=12)
    picture.arrow(212, 58, 246, 58)
    picture.box(250, 30, 190, 56, COLOURS[2], "Every file is hashed", "nothing has run so far", size=12)
    picture.arrow(442, 58, 476, 58)
    picture.box(480, 30, 170, 56, PLAIN, "trust_remote_code?", "does the caller say True", size=12)
    picture.arrow(652, 58, 686, 58)
    picture.say(668, 48, "no", size=12, anchor="middle")
    picture.box(690, 30, 150, 56, STOP, "UntrustedCodeError", "nothing has run", size=12)
    picture.arrow(565, 88, 565, 126)
    picture.say(573, 110, "yes", size=12)
    picture.box(480, 130, 170, 56, PLAIN, "The same hashes?", "the first use approves", size=12)
    picture.arrow(652, 158, 686, 158)
    picture.say(668, 148, "no", size=12, anchor="middle")
    picture.box(690, 130, 150, 56, STOP, "Refused", "it names what changed", size=12)
    picture.arrow(478, 158, 444, 158)
    picture.say(461, 148, "yes", size=12, anchor="middle")
    picture.box(250, 130, 190, 56, DONE, "These bytes are compiled", "a private package, in memory", size=12)
    picture.arrow(248, 158, 214, 158)
    picture.box(20, 130, 190, 56, DONE, "The code runs", "with all rights of your process", size=12)
    picture.say(20, 226, "before you decide", size=14, bold=True)
    picture.box(
        20, 240, 400, 62, CACHE, "maquette trust", "reads the code in a child process and lists what it can do", size=12
    )
    picture.say(450, 226, "never run", size=14, bold=True)
    picture.box(450, 240, 390, 62, STOP, "Pickled weights", "refused, with the line that converts them", size=12)
    picture.write()


def draw_all() -> None:
    for draw in (draw_packing, draw_layouts, draw_loading, draw_trust):
        draw()


if __name__ == "__main__":
    draw_all()
