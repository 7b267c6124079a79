"""What Keras and Flax models share is tested here, on DistilBERT; the folder of the importing file says which."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless_page import read_elements
from safetensors import safe_open
from safetensors.numpy import load_file

import maquette
from maquette import CheckpointError, DistilBertConfig
from maquette.registry import PREFIXES

__all__ = [
    "side",
    "test_a_head_is_new_and_more_is_an_error",
    "test_a_notebook_shows_the_tree_of_a_model",
    "test_bfloat16_is_kept_through_saves",
    "test_code_travels_with_a_model",
    "test_errors_name_what_is_wrong",
    "test_masks_with_holes_and_rows_of_padding",
    "test_resized_vocabularies_keep_their_rows",
]

TINY = {"vocab_size": 40, "dim": 16, "n_heads": 4, "n_layers": 2, "hidden_dim": 24, "max_position_embeddings": 16}
RNG = np.random.default_rng(0)
INPUTS = {"input_ids": RNG.integers(1, 40, (32, 7)), "attention_mask": np.ones((32, 7), int)}
LABELS = INPUTS["input_ids"][:, 0] % 3


def tiny(**changes: Any) -> DistilBertConfig:
    return DistilBertConfig(**{**TINY, "num_labels": 3, **changes})


def arrays(output: Any) -> np.ndarray:
    """Give the logits or states that a model returned."""
    return np.asarray(output.logits if hasattr(output, "logits") else output.last_hidden_state)


class Side:
    """DistilBERT's classes in one framework."""

    def __init__(self, framework: str) -> None:
        self.framework, self.prefix = framework, PREFIXES[framework]

    def __getattr__(self, name: str) -> Any:
        """Find `Model`, `ForMaskedLM` or another class by the end of its name."""
        return getattr(maquette, f"{self.prefix}DistilBert{name}")

    def make(self, name: str, **changes: Any) -> Any:
        return getattr(self, name).from_config(tiny(**changes))


@pytest.fixture
def side(framework: str) -> Side:
    return Side(framework)


def test_a_head_is_new_and_more_is_an_error(side: Side, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = side.make("Model")
    base.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        model, info = side.ForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    new = {f"{layer}.{leaf}" for layer in ("pre_classifier", "classifier") for leaf in ("weight", "bias")}
    assert set(info["missing_keys"]) == new
    assert "classifier.weight  (3, 16)" in caplog.text
    weights = model.state_arrays()
    for name, array in base.state_arrays().items():
        np.testing.assert_array_equal(weights[f"distilbert.{name}"], array)
    np.testing.assert_array_equal(arrays(model.distilbert(**INPUTS)), arrays(base(**INPUTS)))
    with pytest.raises(
        CheckpointError, match=r"embeddings\.word_embeddings\.weight: \(40, 16\) in the file, \(41, 16\)"
    ):
        side.Model.from_pretrained(tmp_path, vocab_size=41)
    with pytest.raises(CheckpointError, match=r"transformer\.layer\.2\.attention\.q_lin\.\* \(2\): not in the file"):
        side.Model.from_pretrained(tmp_path, n_layers=3)


def test_bfloat16_is_kept_through_saves(side: Side, tmp_path: Path) -> None:
    model = side.make("Model")
    model.save_pretrained(tmp_path / "full")
    half = side.Model.from_pretrained(tmp_path / "full", dtype="bfloat16")
    states = half(**INPUTS).last_hidden_state
    assert "bfloat16" in str(states.dtype)
    assert 0 < np.abs(np.asarray(states, "float32") - arrays(model(**INPUTS))).max() < 0.1
    half.save_pretrained(tmp_path / "half")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    with safe_open(tmp_path / "half" / "model.safetensors", framework="np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    side.Model.from_pretrained(tmp_path / "half").save_pretrained(tmp_path / "again")
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("half", "again"))
    assert one == other


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [44, 36])
def test_resized_vocabularies_keep_their_rows(side: Side, tied: bool, size: int, tmp_path: Path) -> None:
    model = side.make("ForMaskedLM", tie_word_embeddings=tied)
    inputs = {name: value % 36 for name, value in INPUTS.items()}
    before = arrays(model(**inputs))
    resized = model.resize_token_embeddings(size)
    assert (resized is model) is (side.framework == "tf")  # modules of Flax never change
    if resized is not model:
        assert model.config.vocab_size == 40
        np.testing.assert_array_equal(arrays(model(**inputs)), before)
    after, rows = arrays(resized(**inputs)), min(40, size)
    assert after.shape == (32, 7, size) and resized.config.vocab_size == resized.distilbert.config.vocab_size == size
    np.testing.assert_allclose(after[..., :rows], before[..., :rows], atol=1e-6)
    resized.save_pretrained(tmp_path)
    assert ("vocab_projector.weight" in load_file(tmp_path / "model.safetensors")) is not tied
    np.testing.assert_array_equal(arrays(side.ForMaskedLM.from_pretrained(tmp_path)(**inputs)), after)
    with pytest.raises(ValueError, match="sizes start at 1"):
        resized.resize_token_embeddings(0)


def test_errors_name_what_is_wrong(side: Side, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"made from a configuration, not from a str. .*from_pretrained"):
        side.Model("distilbert-base-uncased")
    model = side.make("Model")
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(attention_mask=np.ones((1, 3)))
    with pytest.raises(ValueError, match="17 tokens, 16 positions"):
        model(np.ones((1, 17), int))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lies where its framework puts it"):
        side.Model.from_pretrained(tmp_path, device_map="cuda")
    with pytest.raises(TypeError, match=r"no option 'strickt'\. Did you mean 'strict'"):
        side.Model.from_pretrained(tmp_path, strickt=True)
    side.Model.from_pretrained(tmp_path, from_pt=True)


def test_masks_with_holes_and_rows_of_padding(side: Side, from_torch: Path) -> None:
    """What stands at padding, wherever that is, changes nothing elsewhere; outputs there are zeros."""
    model = side.Model.from_pretrained(from_torch / "DistilBertModel")
    mask = np.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    ids = np.arange(15).reshape(3, 5)
    one, other = (arrays(model(np.where(mask, ids, filler), mask)) for filler in (0, 7))
    np.testing.assert_array_equal(one, other)
    assert not one[mask == 0].any() and one[mask == 1].any()


def test_a_notebook_shows_the_tree_of_a_model(side: Side) -> None:
    shown = read_elements(side.make("Model")._repr_html_())
    tree = {cells[0]: cells[1:] for row in shown.all(cls="row") if (cells := [cell.text for cell in row.walk()])}
    assert tree["embeddings"][0] == f"{40 * 16 + 16 * 16 + 2 * 16:,}"
    assert any(name.startswith("0 – 1") for name in tree)
    assert ["640", "40 × 16", "float32"] in tree.values()


WRITE = """
import sys; sys.path.insert(0, "writer")
from modeling_wave import {prefix}Wave, WaveConfig
{prefix}Wave.register_for_auto_class("{prefix}AutoModel")
model = {prefix}Wave.from_config(WaveConfig())
model.save_pretrained("wave", verify=True)
import numpy as np
np.save("expected.npy", np.asarray(model(np.ones((2, 9, 1), "float32"))["heard"]))
"""
READ = """
import numpy as np, sys
from maquette import {prefix}AutoModel, UntrustedCodeError
try:
    {prefix}AutoModel.from_pretrained("wave")
except UntrustedCodeError as error:
    assert "modeling_wave.py" in str(error) and not {{"keras", "flax"}} & set(sys.modules)
else:
    raise AssertionError
model = {prefix}AutoModel.from_pretrained("wave", trust_remote_code=True)
assert np.array_equal(np.asarray(model(np.ones((2, 9, 1), "float32"))["heard"]), np.load("expected.npy"))
assert not {others} & set(sys.modules)
print("equal")
"""


def test_code_travels_with_a_model(side: Side, request: pytest.FixtureRequest, tmp_path: Path, run_fresh) -> None:
    from array_tests import OTHERS

    (tmp_path / "writer").mkdir()
    (tmp_path / "writer" / "modeling_wave.py").write_text(request.module.CUSTOM, encoding="utf-8")
    run_fresh(WRITE.format(prefix=side.prefix))
    (tmp_path / "writer" / "modeling_wave.py").unlink()
    written: Mapping[str, Any] = json.loads((tmp_path / "wave" / "config.json").read_text())
    assert written["auto_map"] == {
        "AutoConfig": "modeling_wave.WaveConfig",
        f"{side.prefix}AutoModel": f"modeling_wave.{side.prefix}Wave",
    }
    said = run_fresh(READ.format(prefix=side.prefix, others=OTHERS[side.framework]))
    assert "equal\n" in said  # TensorFlow may add what it logs
