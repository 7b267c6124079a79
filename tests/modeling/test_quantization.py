"""Quantised weights, through torchao: what becomes of layers, folders both ways with the peer, adapters, and errors."""

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchao.quantization as torchao
from safetensors.torch import load_file, save_file
from torch import nn

import maquette
from maquette import (
    AutoModelForCausalLM,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PretrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from maquette.errors import CheckpointError, ConfigurationError
from maquette.modeling.quantization import is_quantized
from maquette.workshop.xray.survey import xray

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 90}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2}
IDS = torch.randint(1, 90, (2, 9), generator=torch.Generator().manual_seed(0))
# The largest error of one weight, as a share of its scale's largest weight: half a step of rounding.
STEPS = {"int8": 1 / 254, "int8-dynamic": 1 / 254, "int4": 1 / 14, "fp8": 1 / 16}


def make_model() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


@pytest.fixture(scope="module", autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("scheme", STEPS)
def test_weights_are_rounded_and_nothing_else_changes(scheme: str, tmp_path: Path) -> None:
    plain = make_model()
    model = copy.deepcopy(plain)
    assert model.quantize(scheme) is model and model.is_quantized and not plain.is_quantized
    before, after = dict(plain.named_parameters()), dict(model.named_parameters())
    assert before.keys() == after.keys()
    for name, value in after.items():
        if not name.endswith("_proj.weight"):
            assert type(value) is nn.Parameter and torch.equal(value, before[name])
            continue
        assert is_quantized(value) and not value.requires_grad
        group = 32 if scheme == "int4" else value.shape[1]
        error = (value.dequantize().float() - before[name]).unflatten(1, (-1, group)).abs().amax(-1)
        most = before[name].unflatten(1, (-1, group)).abs().amax(-1)
        assert (error <= most * STEPS[scheme] * 1.01).all() and error.any()
    layers = sum(value.numel() for value in after.values() if is_quantized(value))
    assert (
        plain.get_memory_footprint() - model.get_memory_footprint() > 2.5 * layers
    )  # of the 4 bytes, 1 and scales stay
    assert plain.num_parameters() == model.num_parameters()


@pytest.mark.parametrize("scheme", STEPS)
def test_what_is_saved_loads_bit_for_bit(scheme: str, tmp_path: Path) -> None:
    model = make_model().quantize(scheme)
    expected, text = model(IDS).logits, model.generate(IDS[:1], max_new_tokens=5)
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    for folder in ("one", "many"):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / folder)
        assert loaded.is_quantized and torch.equal(loaded(IDS).logits, expected)
        assert torch.equal(loaded.generate(IDS[:1], max_new_tokens=5), text)
    base = LlamaModel.from_pretrained(tmp_path / "one")
    assert torch.equal(base(IDS).last_hidden_state, model.model(IDS).last_hidden_state)
    assert xray(tmp_path / "one", length=8).misfit == {"missing": [], "unexpected": [], "mismatched": []}


def test_a_configuration_says_so_only_where_it_is_so(tmp_path: Path) -> None:
    config = LlamaConfig(**SIZES)
    quantized, plain = LlamaForCausalLM(config).quantize("int8"), LlamaForCausalLM(config)
    quantized.save_pretrained(tmp_path / "quantized")
    plain.save_pretrained(tmp_path / "plain")
    said = json.loads((tmp_path / "quantized" / "config.json").read_text())["quantization_config"]
    assert said["quant_method"] == "torchao" and said["modules_to_not_convert"] == ["lm_head"]
    assert "quantization_config" not in (tmp_path / "plain" / "config.json").read_text()
    read = LlamaConfig.from_pretrained(tmp_path / "quantized")
    fresh = LlamaForCausalLM(read)
    assert not fresh.is_quantized and fresh.quantization_config is None
    fresh.save_pretrained(tmp_path / "fresh")
    assert "quantization_config" not in (tmp_path / "fresh" / "config.json").read_text()
    for more in (
        {"config": read},
        {"quantization_config": said},
        {"quantization": torchao.Int8WeightOnlyConfig(version=2)},
    ):
        assert LlamaForCausalLM.from_pretrained(tmp_path / "plain", **more).quantization_config == said


def test_what_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model().quantize("int8", skip=["*.down_proj", "model.layers.0"])
    assert {name for name, p in model.named_parameters() if is_quantized(p)} == {
        f"model.layers.1.{name}.weight"
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj")
    } | {"model.layers.1.mlp.up_proj.weight"}
    head = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=30, dim=32, hidden_dim=48, n_layers=1, n_heads=2)
    )
    with caplog.at_level(logging.WARNING, "maquette"):
        head.quantize("int4")
    left = {
        name for name, p in head.named_parameters() if name.endswith("weight") and p.ndim == 2 and not is_quantized(p)
    }
    assert {"pre_classifier.weight", "classifier.weight", "distilbert.transformer.layer.0.ffn.lin2.weight"} <= left
    assert "groups of 32 weights do not divide" in caplog.text and "ffn.lin2 (48 inputs)" in caplog.text


def test_tied_weights_stay_tied() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)).quantize("int8")
    assert model.lm_head.weight is model.model.embed_tokens.weight and type(model.lm_head.weight) is nn.Parameter


def test_types(tmp_path: Path) -> None:
    make_model().quantize("int8").save_pretrained(tmp_path / "int8")
    make_model().quantize("fp8").save_pretrained(tmp_path / "fp8")
    half = LlamaForCausalLM.from_pretrained(tmp_path / "int8", dtype=torch.bfloat16)
    assert half(IDS).logits.dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match=r"quantised \(Float8Tensor\) for another type than torch.bfloat16"):
        LlamaForCausalLM.from_pretrained(tmp_path / "fp8", dtype=torch.bfloat16)


def test_the_peer_and_we_read_each_others_folders(
    tmp_path: Path, run_peer: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    save_file({"ids": IDS}, tmp_path / "ids.safetensors")
    make_model().save_pretrained(tmp_path / "plain")
    expected = {}
    for scheme in STEPS:
        model = make_model().quantize(scheme)
        model.save_pretrained(tmp_path / f"ours-{scheme}")
        expected[scheme] = model(IDS).logits
    source = str(Path(maquette.__file__).parents[1])
    seen = json.loads(run_peer(Path(__file__).parent / "peer_quantized.py", tmp_path, source).splitlines()[-1])
    size = expected["int8"].abs().max()
    for scheme, logits in expected.items():
        assert seen[f"ours-{scheme}"] in ("Int8Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor")
        found = load_file(tmp_path / f"ours-{scheme}" / "seen.safetensors")["logits"]
        # where inputs are rounded too, a last bit can turn a number of 8 bits into its neighbour
        torch.testing.assert_close(found, logits, rtol=0, atol=float(size) * (0.05 if "dynamic" in scheme else 1e-5))
    for scheme in ("int8", "fp8"):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / f"theirs-{scheme}")
        assert loaded.is_quantized
        found = load_file(tmp_path / f"theirs-{scheme}" / "seen.safetensors")["logits"]
        torch.testing.assert_close(loaded(IDS).logits, found, rtol=0, atol=float(size) * 1e-5)
    assert seen["adapter"]["last"] < seen["adapter"]["first"] - 0.3 and seen["adapter"]["same"]


class OwnConfig(PretrainedConfig):
    model_type = "own-quantised"
    width: int = 8


class Own(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config: OwnConfig) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda model: model.quantize("int88"), r"no quantization 'int88'. Did you mean 'int8'"),
        (lambda model: model.quantize(4), r"takes a name \(int8, .*not 4"),
        (lambda model: model.quantize("int8", skip=["mlq"]), r"names 'mlq'.* no such module"),
        (lambda model: model.quantize("fp8-dynamic"), r"torchao cannot do Float8.* on cpu"),
        (lambda model: model.quantize("int8").quantize("int4"), r"quantised already"),
        (lambda model: Own(OwnConfig()).quantize("int8"), r"Own has no linear layer"),
    ],
)
def test_bad_input_changes_nothing(act: Callable[[Any], Any], said: str) -> None:
    if not torch.cuda.is_available() or "cpu" not in said:
        model = make_model()
        with pytest.raises(ConfigurationError, match=said):
            act(model)
        assert model.is_quantized == ("already" in said)


def test_weights_of_other_methods_are_refused(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"was quantised by 'gptq', and maquette reads what 'torchao'"):
        LlamaForCausalLM.from_pretrained(tmp_path)


def test_parts_that_are_missing_are_named(tmp_path: Path) -> None:
    make_model().quantize("int8").save_pretrained(tmp_path)
    from safetensors import safe_open

    path = tmp_path / "model.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    del weights["model.layers.0.mlp.up_proj._weight_scale"]
    save_file(weights, path, metadata)
    with pytest.raises(CheckpointError, match=r"lacks parts of them:\s+- model.layers.0.mlp.up_proj._weight_scale"):
        LlamaForCausalLM.from_pretrained(tmp_path)


def test_a_trainer_wants_adapters(tmp_path: Path) -> None:
    model = make_model().quantize("int8")
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 4
    trainer = Trainer(model, TrainingArguments(output_dir=str(tmp_path), max_steps=1), train_dataset=rows)
    with (
        torch.enable_grad(),
        pytest.raises(ConfigurationError, match="quantised, so that its linear layers learn nothing"),
    ):
        trainer.train()
