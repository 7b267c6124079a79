"""Pictures of tokens and of attention weights, and a notebook in which everything shows itself."""

import base64
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headless_page import CHROMIUM, Element, open_page, read_elements
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from maquette import (
    BertTokenizer,
    BertTokenizerFast,
    ModelOutput,
    PreTrainedTokenizerFast,
)
from maquette.errors import InputError
from maquette.storage.html_view import PAGE
from maquette.workshop import draw_attention, draw_tokens
from maquette.workshop.drawings import attention, tokens
from maquette.workshop.drawings.png import png_uri

browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium, which opens the page, is not installed")

HOSTILE = "<script>alert('1')</script>"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "s", "##at", "on", "a", "mat", "."]


def read(view: Any) -> Element:
    found = read_elements(view._repr_html_())
    assert not {"script", "link", "object"} & {element.tag for element in found.walk()}
    assert not [name for element in found.walk() for name in element.attributes if name.startswith("on")]
    return found


def levels(uri: str) -> np.ndarray:
    """Read a PNG of one byte a place."""
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, place = {}, 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        assert struct.unpack(">I", content[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + data)
        chunks[kind], place = data, place + 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    return np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)[:, 1:]


def chips(view: Any) -> list[tuple[str, set[str]]]:
    return [(chip.text, chip.classes - {"chip", "tint0", "tint1", "tint2"}) for chip in read(view).all(cls="chip")]


def bert(cls: Any = BertTokenizerFast) -> Any:
    return cls(vocab={word: place for place, word in enumerate(WORDS)})


def test_tokens_are_marked_on_their_text() -> None:
    view = draw_tokens(bert(), "The cat  sat on a red mat.")
    assert chips(view)[0] == ("[CLS]2 · special", {"special"})
    assert ("s7 · 9–10", set()) in chips(view) and ("##at8 · 10–12", set()) in chips(view)
    assert ("[UNK]1 · 18–21 · unknown", {"unknown"}) in chips(view)
    line = read(view).one(cls="text")
    assert line.text == "The cat  sat on a red mat."
    assert [each.text for each in line.all("span") if "quiet" not in each.classes][:4] == ["The", "cat", "s", "at"]
    assert re.search(r"8  ##at +10–12 +'at'", str(view)) and "unknown" in str(view)


def test_bytes_of_a_character_and_marks_of_spaces() -> None:
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    content = Tokenizer(models.BPE({"<s>": 0, **{sign: place for place, sign in enumerate(signs, 1)}}, []))
    content.pre_tokenizer, content.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    view = draw_tokens(PreTrainedTokenizerFast(tokenizer_object=content, bos_token="<s>"), "<s>a é\n<b>")
    kinds = [kind for _, kind in chips(view)]
    assert kinds[:5] == [{"special"}, set(), set(), {"byte"}, {"byte"}] and not any(kinds[5:])
    assert chips(view)[2][0].startswith("·")
    assert read(view).one(cls="text").text == "<s>a é⏎\n<b>"


def test_a_tokenizer_in_python_shows_its_tokens() -> None:
    view = draw_tokens(bert(BertTokenizer), "The cat.", add_special_tokens=False)
    assert [text for text, _ in chips(view)] == ["the5", "cat6", ".12"]
    assert not read(view).all(cls="text")


def test_hostile_texts_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = bert()
    tokenizer.add_tokens([HOSTILE])
    view = draw_tokens(tokenizer, f"a {HOSTILE} cat")
    assert HOSTILE in read(view).one(cls="text").text
    monkeypatch.setattr(tokens, "MOST_TOKENS", 2)
    assert "and 3 more" in read(draw_tokens(tokenizer, "a cat on")).text and "and 3 more" in str(
        draw_tokens(tokenizer, "a cat on")
    )
    assert read(draw_tokens(tokenizer, "", add_special_tokens=False)).text.count("0 tokens") == 1
    with pytest.raises(InputError, match="one text, not a list"):
        draw_tokens(tokenizer, ["a"])  # type: ignore[arg-type]


def test_attention_is_drawn_as_it_is() -> None:
    weights = torch.rand(3, 2, 4, 5, 5)  # layers, rows, heads
    names = ["a", HOSTILE, "c", "d", "e"]
    view = draw_attention(ModelOutput(attentions=tuple(weights)), names, layer=1, head=2, row=1)
    page = read(view)
    assert [each["alt"] for each in page.all("img")] == [f"layer {i}, head {j}" for i in range(3) for j in range(4)]
    assert page.one("img", cls="chosen")["alt"] == "layer 1, head 2"
    own = weights[1, 1, 2].double().numpy()
    assert np.array_equal(levels(page.one("image")["href"]), (own / own.max() * 255).round())
    assert np.array_equal(levels(page.one("img", cls="chosen")["src"]), (own / own.max() * 255).round())
    titles = [each.text for each in page.all("title")]
    assert titles[1] == f"a → {HOSTILE}: {own[0, 1]:.4f}" and len(titles) == 25
    first = np.argsort(-own[0])[0]
    assert f"a {' ' * 18} → {names[first]} {own[0, first]:.2f}" in str(view)


def test_looking_at_another_text_and_at_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    view = draw_attention([np.full((1, 2, 2, 3), 0.25)], ["x", "y"], keys=["k1", "k2", "k3"], head=-1)
    assert [each.text for each in read(view).all("text")] == ["x", "y", "k1", "k2", "k3"]
    monkeypatch.setattr(attention, "SMALL", 4)
    monkeypatch.setattr(attention, "LARGE", 8)
    weights = np.zeros((1, 1, 50, 50))
    weights[0, 0, 7, 49] = 1
    weights[0, 0, 3, 3] = np.nan
    page = read(draw_attention(weights))
    small, large = levels(page.one("img")["src"]), levels(page.one("image")["href"])
    assert small.shape == (4, 4) and small[0, 3] == 255 and small.astype(int).sum() == 255
    assert large.shape == (8, 8) and large[1, 7] == 255
    assert not page.all("title")


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (ModelOutput(logits=torch.zeros(1)), {}, "output_attentions=True"),
        (ModelOutput(attentions=None), {}, "output_attentions=True"),
        ((), {}, "no layers"),
        ((torch.zeros(2, 5, 5),), {}, r"\(2, 5, 5\)"),
        (torch.zeros(1, 2, 5, 5), {"layer": 1}, "layer=1: there are 1"),
        (torch.zeros(1, 2, 5, 5), {"head": 2}, "head=2: there are 2, 0 to 1"),
        (torch.zeros(1, 2, 5, 5), {"row": 1}, "row=1"),
        (torch.zeros(1, 2, 5, 5), {"tokens": ["a"]}, "1 names, and the weights are of 5"),
    ],
)
def test_what_cannot_be_drawn_says_what_to_do(given: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        draw_attention(given, **options)


def test_a_picture_has_its_greatest_weight_in_full_ink() -> None:
    assert levels(png_uri(np.array([[0.0, 1.0], [0.5, np.nan]]))).tolist() == [[0, 255], [128, 0]]


CELLS = (
    "import torch\nfrom maquette import BertConfig, BertModel, BertTokenizerFast\n"
    "from maquette.modeling.packing import lay_out\nfrom maquette.workshop import draw_attention, draw_tokens\n"
    f"words = {WORDS}\n"
    "tokenizer = BertTokenizerFast(vocab={word: place for place, word in enumerate(words)})\n"
    "config = BertConfig(vocab_size=13, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,"
    " intermediate_size=64, initializer_range=0.5)\nconfig",
    "torch.manual_seed(0)\nmodel = BertModel(config).eval()\nmodel",
    "batch = tokenizer(['The cat sat on a mat.', 'A red mat.'], padding=True, return_tensors='pt')\nbatch",
    "output = model(**batch, output_attentions=True)\noutput",
    "lay_out(batch.input_ids, batch.attention_mask)",
    "draw_tokens(tokenizer, 'The cat sat on a red mat.')",
    "draw_attention(output, tokenizer.convert_ids_to_tokens(batch.input_ids[0]), layer=1, head=2)",
)


@browser
def test_a_notebook_shows_everything_and_a_browser_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    kernel = tmp_path / "jupyter_data_dir" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    command = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (kernel / "kernel.json").write_text(f'{{"argv": {command}, "display_name": "Python", "language": "python"}}')
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    shown = [cell.outputs[-1]["data"] for cell in notebook.cells]
    assert all("text/plain" in data and "text/html" in data for data in shown)
    assert "places are real" in shown[2]["text/html"]
    page = tmp_path / "notebook.html"
    page.write_text(PAGE.format(title="Notebook", body="<hr>".join(data["text/html"] for data in shown)))
    opened = open_page(page)
    assert not opened.console
    headings = [each.all("b")[0].text for each in opened.page.all(cls="maquette")]
    assert headings == ["BertConfig", "BertModel", "BatchEncoding", headings[3], "Layout", "Tokens", "Attention"]


def test_a_view_is_saved_as_a_page_of_its_own(tmp_path: Path) -> None:
    view = draw_tokens(bert(), "a cat")
    path = view.save(tmp_path / "tokens.html")
    text = path.read_text(encoding="utf-8")
    assert view.markup in text and "default-src 'none'" in text and "://" not in text
    assert repr(view) == str(view)
