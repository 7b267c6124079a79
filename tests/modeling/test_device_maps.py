"""Models divided among the CPU and the disk: the same results, whole saves, maps that cannot be, too little memory."""

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights, load_checkpoint_and_dispatch
from rounding import bound
from torch import Tensor, nn

from maquette import (
    AutoModelForCausalLM,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
)
from maquette.errors import ConfigurationError
from maquette.modeling.devices import find_blocks, find_whole
from maquette.testing import cases

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "vocab_size": 90}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2}
PROMPTS = [[1, 2, 3], [4, 5]]
IDS = torch.arange(1, 10)[None]
PARTS = ("model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb", "lm_head")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(made)
    return made


@pytest.mark.parametrize(
    "options",
    [
        {"device_map": "auto"},
        {"device_map": torch.device("cpu")},
        {"device_map": {"": "cpu"}},
        {"device_map": "auto", "max_memory": {"cpu": "150KB"}},
        {"device_map": "sequential", "max_memory": {"cpu": 250_000}},
        {"device_map": "balanced_low_0", "max_memory": {"cpu": "150KB"}},
        {"device_map": {name: "disk" if name == "model.layers" else "cpu" for name in PARTS}},
        {"device_map": {**dict.fromkeys(PARTS, "cpu"), "model.layers.2": "disk", "model.layers.1.mlp": "disk"}},
        {"device_map": {"": "disk", "model.layers": "cpu", "model.layers.3": "disk"}},
        {"device_map": {"": "disk"}},
    ],
    ids=str,
)
def test_where_weights_lie_changes_nothing(folder: Path, options: dict[str, Any], tmp_path: Path) -> None:
    plain = LlamaForCausalLM.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    on_disk = any(place == "disk" for place in model.hf_device_map.values())
    assert on_disk == ("disk" in str(options) or "max_memory" in options)
    assert on_disk == any(p.is_meta for p in model.parameters()) and model.device == torch.device("cpu")
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, plain(IDS).logits)
    assert torch.equal(model.generate(PROMPTS, max_new_tokens=6), plain.generate(PROMPTS, max_new_tokens=6))
    assert on_disk == any(p.is_meta for p in model.parameters())  # nothing was left in memory
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_ties_and_types(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tied = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(tied).save_pretrained(tmp_path / "plain")
    plain = T5ForConditionalGeneration.from_pretrained(tmp_path / "plain", dtype=torch.bfloat16)
    places = {"shared": "cpu", "encoder": "disk", "decoder": "disk", "lm_head": "cpu"}
    model = T5ForConditionalGeneration.from_pretrained(tmp_path / "plain", device_map=places, dtype=torch.bfloat16)
    assert torch.equal(model.generate(PROMPTS, max_new_tokens=4), plain.generate(PROMPTS, max_new_tokens=4))
    plain.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "other")
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "other/model.safetensors").read_bytes()


def test_what_no_file_holds_is_written(tmp_path: Path, folder: Path) -> None:
    base = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=30, dim=16, hidden_dim=16, n_layers=1, n_heads=2)
    )
    base.distilbert.save_pretrained(tmp_path / "base")  # without a head
    places = {"distilbert": "cpu", "pre_classifier": "disk", "classifier": "disk"}
    load = DistilBertForSequenceClassification.from_pretrained
    with pytest.raises(ConfigurationError, match=r"(?s)not in the file as they are:.*classifier.*Give offload_folder"):
        load(tmp_path / "base", device_map=places)
    torch.manual_seed(0)
    model = load(tmp_path / "base", device_map=places, offload_folder=str(tmp_path / "off"))
    torch.manual_seed(0)
    plain = load(tmp_path / "base")
    first = model(IDS).logits
    assert torch.equal(first, plain(IDS).logits)
    torch.manual_seed(1)  # another model in the same folder leaves the first one's files alone
    load(tmp_path / "base", device_map=places, offload_folder=str(tmp_path / "off"))
    assert torch.equal(model(IDS).logits, first)


def test_quantised_weights(folder: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folder, device_map="auto", quantization="int8")
    assert model.is_quantized and model.hf_device_map == {"": "cpu"}
    with pytest.raises(ConfigurationError, match="Quantised weights cannot be left on disk"):
        LlamaForCausalLM.from_pretrained(folder, device_map={"": "disk"}, quantization="int8")


def test_the_way_of_accelerate(folder: Path, tmp_path: Path) -> None:
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES))
    assert all(p.is_meta for p in model.parameters())
    places = {name: "disk" if name == "model.layers" else "cpu" for name in PARTS}
    file, options = str(folder / "model.safetensors"), {"device_map": places, "offload_folder": str(tmp_path)}
    model = load_checkpoint_and_dispatch(model, file, **options).eval()
    plain = LlamaForCausalLM.from_pretrained(folder)
    assert torch.equal(model.generate(PROMPTS, max_new_tokens=6), plain.generate(PROMPTS, max_new_tokens=6))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device_map": "autp"}, r"'autp', and that is no device. Did you mean 'auto'"),
        ({"device_map": {"model.layer": "cpu"}}, r"'model.layer', and .* no such module. Did you mean 'model.layers'"),
        ({"device_map": {"model.layers": "cpu"}}, r"(?s)says nothing of these parts.*- model.embed_tokens.*- lm_head"),
        ({"device_map": "cuda:99"}, r"'cuda:99'; this machine has (no|\d+) CUDA devices"),
        ({"device_map": "auto", "max_memory": {"cpu": "20KB"}}, r"needs 0.5 MB, and its largest block, model.layers.0"),
        ({"device_map": "auto", "max_memory": {"cpu": "much"}}, r"max_memory='much' is no size"),
        ({"max_memory": {"cpu": "1GB"}}, r"give device_map='auto' with it"),
    ],
)
def test_maps_that_cannot_be(folder: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LlamaForCausalLM.from_pretrained(folder, **options)


def test_what_does_not_fit_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "maquette"):
        LlamaForCausalLM.from_pretrained(folder, device_map="auto", max_memory={"cpu": "150KB"})
    assert "of 0.5 MB do not fit into memory, and are read from disk in every forward" in caplog.text


# Blocks ----------------------------------------------------------------------------------------------------------


class OwnConfig(PretrainedConfig):
    model_type = "own-blocks"
    width: int = 8


class OwnBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Own(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config: OwnConfig) -> None:
        super().__init__(config)
        self.stem, self.head = OwnBlock(config.width), nn.Linear(config.width, 2)
        self.blocks = nn.ModuleList(OwnBlock(config.width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_blocks_are_found_in_the_tree(tmp_path: Path) -> None:
    own = Own(OwnConfig())
    assert find_blocks(own) == [*own.blocks] and find_whole(own) == [own.stem, *own.blocks]
    resnet = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 3]))
    assert find_blocks(resnet) == [*resnet.resnet.encoder.stages]
    llama = LlamaForCausalLM(LlamaConfig(**SIZES))
    assert find_blocks(llama) == [*llama.model.layers]
    own.save_pretrained(tmp_path)
    divided = Own.from_pretrained(tmp_path, device_map="auto", max_memory={"cpu": "1.5KB"})
    x = torch.randn(2, 8)
    assert len(set(divided.hf_device_map.values())) == 2 and torch.equal(divided(x), own.eval()(x))
    assert {"blocks.0.inner", "stem.inner"}.isdisjoint(divided.hf_device_map)
    assert json.loads((tmp_path / "config.json").read_text())["width"] == 8


# Built-in families -----------------------------------------------------------------------------------------------

FAMILIES = [list(some) for _, some in itertools.groupby(cases(), key=lambda case: case.card.package)]
CHOSEN = {str(case): case for family in FAMILIES for case in (family[0], family[-1])}


@pytest.mark.parametrize("case", CHOSEN.values(), ids=CHOSEN)
def test_built_in_models_run_from_disk(case: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = case.model_class(case.config()).eval().requires_grad_(False)
    model.save_pretrained(tmp_path / "plain")
    names = {id(module): name for name, module in model.named_modules()}
    blocks = dict.fromkeys((names[id(block)] for block in find_whole(model)), "disk")
    for places in ({"": "cpu", **blocks}, {"": "disk"}):
        load = case.model_class.from_pretrained
        other = load(tmp_path / "plain", device_map=places, offload_folder=str(tmp_path / "off"))
        outputs = []
        for each in (model, other):
            torch.manual_seed(0)
            outputs.append(torch.utils._pytree.tree_leaves(dict(each(**model.dummy_inputs))))
        assert any(isinstance(value, Tensor) for value in outputs[0])
        for one, wanted in zip(*outputs, strict=True):
            if isinstance(wanted, Tensor):
                apart = bound([wanted]) if wanted.is_floating_point() else 0  # files are not aligned as memory is
                torch.testing.assert_close(one, wanted, rtol=0, atol=apart, equal_nan=True)
        other.save_pretrained(tmp_path / "other")
        kept = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "other")]
        assert kept[0] == kept[1]
