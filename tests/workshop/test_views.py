"""What configurations, models, outputs and batches show in a notebook."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from headless_page import Element, read_elements
from torch import nn

from maquette import (
    BatchEncoding,
    BatchFeature,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    CLIPConfig,
    GPT2Config,
    GPT2LMHeadModel,
    ModelOutput,
    PretrainedConfig,
    PreTrainedModel,
)
from maquette.batch import view as batch_view
from maquette.modeling.packing import lay_out

HOSTILE = "<script>alert('1')</script>"
TINY = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
NAMES = {"script", "iframe", "img", "link", "object"}


def read(shown: Any) -> Element:
    """Read what an object shows: whole HTML, without scripts and without anything from elsewhere."""
    text = shown._repr_html_()
    assert text is not None
    assert "://" not in text and "url(" not in text and "@import" not in text
    found = read_elements(text)
    assert not NAMES & {element.tag for element in found.walk()}
    assert not [name for element in found.walk() for name in element.attributes if name.startswith("on")]
    return found


def rows(shown: Element) -> dict[str, list[str]]:
    """Give the cells of tables by the first of them."""
    cells = [[cell.text for cell in row.all("td")] for row in shown.all("tr") if row.all("td")]
    return {first: rest for first, *rest in cells}


def test_a_configuration_marks_what_differs_from_its_defaults() -> None:
    shown = read(BertConfig(**TINY, id2label={0: HOSTILE, 1: "b"}))
    changed = [row.all("td")[0].text for row in shown.all("tr", cls="changed")]
    assert set(changed) == {*TINY, "id2label", "label2id"}
    assert rows(shown)["hidden_size"] == ["32", "768"] and rows(shown)["hidden_act"] == ['"gelu"', ""]
    assert "alert" in rows(shown)["id2label"][0]
    assert "<" not in str(BertConfig()) and not read(BertConfig()).all("tr", cls="changed")


def test_a_field_that_has_to_be_given_has_no_default() -> None:
    class Needing(PretrainedConfig):
        model_type = "needing"
        dim: int
        name: str = HOSTILE

    found = rows(read(Needing(dim=3)))
    assert found["dim"] == ["3", "–"] and found["name"] == [f'"{HOSTILE}"', ""]


def test_nested_configurations_fold() -> None:
    config = CLIPConfig()
    config.text_config.vocab_size = 99
    shown = read(config)
    folded = {each.one("summary").text: each for each in shown.all("details")}
    assert rows(folded["clip_text_model"])["vocab_size"][0] == "99"
    assert {row.all("td")[0].text for row in folded["clip_text_model"].all("tr", cls="changed")} == {"vocab_size"}


def tree_of(shown: Element) -> dict[str, list[str]]:
    lines = [[cell.text.strip() for cell in row.children if isinstance(cell, Element)] for row in shown.all(cls="row")]
    return {first: rest for first, *rest in lines}


def test_a_model_is_a_tree_of_its_modules_with_shapes_and_ties() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=3, n_head=2))
    model.transformer.wpe.weight.requires_grad_(False)
    shown = read(model)
    tree = tree_of(shown)
    assert tree["GPT2LMHeadModel"][0] == f"{model.num_parameters():,}"
    assert tree["lm_head Linear"] == ["+ 800 tied", "50 × 16", "float32"]
    assert any("= transformer.wte.weight" in name for name in tree)
    assert any(name.startswith("0 – 2 × 3") for name in tree)
    assert "weight frozen" in tree
    assert "800 more are tied" in shown.text and "some of them frozen" in shown.text
    assert all("open" not in each.attributes for each in shown.all("details")[1:])


def test_a_model_without_memory_shows_itself() -> None:
    with torch.device("meta"):
        model = BertModel(BertConfig(**TINY))
    assert "on meta" in read(model).text


def test_names_of_modules_are_escaped_and_a_broken_model_falls_back_on_its_text() -> None:
    class Odd(PreTrainedModel):
        config_class = BertConfig

        def __init__(self, config: BertConfig) -> None:
            super().__init__(config)
            self.parts = nn.ModuleDict({HOSTILE: nn.Linear(2, 2), "lazy": nn.LazyLinear(3)})

        def forward(self, x: Any) -> Any:
            return self.parts[HOSTILE](x)

    model = Odd(BertConfig(**TINY))
    assert f"{HOSTILE} Linear" in tree_of(read(model))
    model.parts._modules["itself"] = model  # a circle
    assert model._repr_html_() is None


def test_an_output_shows_its_numbers_and_marks_what_is_none() -> None:
    model = BertForMaskedLM(BertConfig(**TINY)).eval()
    with torch.no_grad():
        output = model(torch.tensor([[5, 6, 7, 8]]), output_hidden_states=True, output_attentions=True)
    output.logits[0, 0, :2] = float("nan")
    output.logits[0, 1, 0] = float("inf")
    output.logits[0, 1, 1] = 77
    found = read(output)
    assert rows(found)["logits"][:2] == ["1 × 4 × 100", "float32"]
    assert rows(found)["logits"][-1] == "77 2 NaN 1 infinite"
    folded = [each.one("summary").text for each in found.all("details")]
    assert folded == ["hidden_states 4 values, 1 × 4 × 32", "attentions 3 values, 1 × 4 × 4 × 4"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64])
def test_numbers_of_every_type_are_shown_or_left_out(dtype: torch.dtype) -> None:
    found = rows(read(ModelOutput(x=torch.tensor([0, 1, 1]).to(dtype))))["x"]
    assert found[:2] == ["3", str(dtype).removeprefix("torch.")]
    assert found[2:] == (["", "", ""] if dtype.is_complex else ["0", "0.6667", "1"])


def test_values_without_numbers_are_shown_by_their_shapes() -> None:
    class Raising:
        def __repr__(self) -> str:
            raise RuntimeError(HOSTILE)

    values = {"meta": torch.empty(2, 3, device="meta"), "empty": np.empty((0, 4)), "odd": Raising(), HOSTILE: None}
    found = rows(read(ModelOutput(**values)))
    assert found["meta"] == ["2 × 3", "float32", "no values", "", ""]
    assert found["empty"][0] == "0 × 4" and found["odd"][1] == "Raising" and found[HOSTILE][1] == "NoneType"


def test_of_large_arrays_the_first_numbers_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_view, "MOST_NUMBERS", 12)
    values = torch.arange(60.0).reshape(3, 5, 4)
    looked: list[int] = []
    monkeypatch.setattr(batch_view, "_as_numbers", lambda part: looked.append(part.numel()) or part.numpy())
    found = rows(read(ModelOutput(x=values, y=values[0, 0])))
    assert found["x"][-1] == "11 of the first 12" and found["y"][-1] == "3"
    assert max(looked) <= 12


def test_nested_tuples_are_bounded() -> None:
    layers = tuple((np.zeros(2), np.ones(2)) for _ in range(300))
    found = read(ModelOutput(layers=layers))
    assert len(rows(found)) == batch_view.MOST_ARRAYS and "and 400 more" in found.text
    assert rows(found)["[1][1]"] == ["2", "float64", "1", "1", "1"]


def test_a_batch_tells_how_much_of_it_is_padding() -> None:
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    for batch in (
        BatchEncoding({"input_ids": ids, "attention_mask": mask}),
        BatchEncoding({"input_ids": ids.tolist(), "attention_mask": mask.tolist()}),
        BatchFeature({"input_values": ids.float().numpy(), "attention_mask": mask.numpy()}),
    ):
        assert "6 of 8 places are real, 75%" in read(batch).text
    hostile = rows(read(BatchFeature({HOSTILE: HOSTILE, "attention_mask": object()})))
    assert hostile[HOSTILE][0] == repr(HOSTILE)
    without = BatchFeature({"attention_mask": torch.empty(2, 3, device="meta")})
    assert "real" not in read(without).text


def test_a_layout_tells_whether_it_is_packed() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    packed, padded = (read(lay_out(mask, mask, packed=packed)).text for packed in (True, False))
    assert re.search(r"packed, 2 × 4 places.*6 of 8 places are real, 75%", packed)
    assert re.search(r"padded, 2 × 4 places.*6 of 8 places are real, 75%", padded)
