"""What `xray` says of a model is what the model does: counted by hand, by torch, and measured in a real step."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from headless_page import CHROMIUM, act, open_page, read_elements
from loopback_hub import LoopbackHub
from safetensors.torch import load_file, save_file
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from maquette import (
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    LlamaConfig,
    MissingFileError,
    MixtralConfig,
    MixtralForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    T5Config,
    UnknownNameError,
)
from maquette.errors import ConfigurationError, FileFormatError
from maquette.registry import card_for
from maquette.testing.labels import label_names, make_labels
from maquette.workshop.xray import write_page, xray
from maquette.workshop.xray.inputs import find_loss, make_inputs
from maquette.workshop.xray.terminal import show_bytes, show_count, show_lines

LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
MIXTRAL = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
DISTILBERT = {"vocab_size": 100, "dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 64}
CAUSAL = {"auto_class": "AutoModelForCausalLM"}

# Counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [False, True])
def test_products_are_counted_as_in_the_papers(train: bool) -> None:
    """2 operations for each weight and token, 4 for each pair of tokens and number of a state; backwards twice that."""
    seen = xray(LlamaConfig(**LLAMA), batch=2, length=32, train=train, machine="cpu", **CAUSAL)
    layer = 64 * (64 + 32 + 32) + 64 * 64 + 3 * 64 * 96
    weights = 2 * 2 * 32 * (3 * layer + 64 * 100)
    pairs = 4 * 2 * 32 * 32 * 64 * 3
    assert seen.run is not None and seen.run.forward == {"layers": weights, "attention": pairs}
    if train:  # kernels of attention compute the scores again
        assert seen.run.backward == 2 * weights + pairs * 5 // 2


PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "distilbert": ("AutoModelForMaskedLM", {**DISTILBERT, "attn_implementation": "eager"}),
    "llama": ("AutoModelForCausalLM", {**LLAMA, "attn_implementation": "eager"}),
    "vit": ("AutoModelForImageClassification", {"attn_implementation": "eager"}),
    "resnet": ("AutoModelForImageClassification", {}),
}


@pytest.mark.parametrize("family", PLAIN)
def test_counts_are_those_of_torch_where_it_runs_plain_operations(family: str) -> None:
    """And the same where attention is fused, of which torch's counter knows nothing."""
    auto_class, fields = PLAIN[family]
    card = card_for(family)
    assert card is not None
    config = card.load(card.config)(**{**card.tiny, **fields})
    model = card.load(card.models[auto_class])(config).eval()
    inputs = {
        name: torch.zeros(x.shape, dtype=x.dtype) for name, x in make_inputs(model, None, batch=2, length=16).items()
    }
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    seen = xray(config, batch=2, length=16, auto_class=auto_class)
    assert seen.flops == counter.get_total_flops() > 0
    if "attn_implementation" in fields:
        fused = card.load(card.config)(**{**card.tiny, **fields, "attn_implementation": "sdpa"})
        assert xray(fused, batch=2, length=16, auto_class=auto_class).flops == seen.flops


class Flexible(PreTrainedModel):
    config_class = LlamaConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.qkv = nn.Linear(32, 96, bias=False)

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        return {"x": torch.zeros(2, 8, 32)}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        from torch.nn.attention.flex_attention import flex_attention

        q, k, v = self.qkv(x).view(*x.shape[:2], 3, 4, 8).permute(2, 0, 3, 1, 4)
        return {"states": flex_attention(q, k, v).transpose(1, 2).flatten(2)}


def test_flex_attention_is_counted_as_what_it_computes() -> None:
    from torch.nn.attention import flex_attention

    own = flex_attention.flex_attention
    seen = xray(Flexible(LlamaConfig(**LLAMA)), batch=3, train=True)
    assert seen.run is not None and not seen.notes
    products, pairs = 2 * 3 * 8 * 32 * 96, 4 * 3 * 4 * 8 * 8 * 8  # rows, heads, tokens twice, width
    assert seen.run.forward == {"layers": products, "attention": pairs}
    assert seen.run.backward == products + pairs * 5 // 2  # the input needs no gradient
    assert flex_attention.flex_attention is own


def test_ties_count_once() -> None:
    seen = xray(DistilBertConfig(**DISTILBERT), auto_class="AutoModelForMaskedLM", length=16)
    model = DistilBertForMaskedLM(DistilBertConfig(**DISTILBERT))
    assert seen.parameters == model.num_parameters() and seen.tree is not None and seen.tree.tied == 100 * 32
    assert seen.ties == {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_experts_count_as_many_as_a_token_goes_to(dtype: str) -> None:
    seen = xray(MixtralConfig(**MIXTRAL), batch=2, length=16, dtype=dtype, **CAUSAL)
    expert = 3 * 64 * 96
    assert seen.tree is not None and seen.run is not None
    assert seen.parameters == MixtralForCausalLM(MixtralConfig(**MIXTRAL)).num_parameters()
    assert seen.parameters - seen.tree.active == 3 * 2 * expert
    assert seen.run.forward["experts"] == 2 * 2 * 16 * 3 * 2 * expert


class LoopConfig(PretrainedConfig):
    model_type = "loop_of_experts"
    dim: int = 16
    num_experts: int = 4
    num_experts_per_tok: int = 1


class Loop(nn.Module):
    """Experts as people write them: a loop over those that have tokens."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.router = nn.Linear(config.dim, config.num_experts, bias=False)
        self.experts = nn.ModuleList(nn.Linear(config.dim, config.dim, bias=False) for _ in range(config.num_experts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = self.router(x).argmax(-1)
        result = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero(as_tuple=True)
            result[rows] = expert(x[rows])
        return result


class LoopModel(PreTrainedModel):
    config_class = LoopConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.first = nn.GRU(config.dim, config.dim, batch_first=True)
        self.loop = Loop(config)

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        return {"x": torch.zeros(2, 3, self.config.dim)}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"states": self.loop(self.first(x)[0])}


def test_what_takes_values_is_estimated_and_said() -> None:
    seen = xray(LoopModel, batch=2)
    assert seen.run is not None and seen.run.forward["experts"] == 2 * 2 * 3 * 16 * 16  # one expert for each token
    assert seen.run.forward["layers"] == 2 * 2 * 3 * (6 * 16 * 16 + 4 * 16)  # the GRU runs as it is
    assert any(note.startswith("loop: estimated") for note in seen.notes)
    assert seen.tree is not None and seen.parameters - seen.tree.active == 3 * 16 * 16


def test_a_model_is_left_as_it_is() -> None:
    model = LoopModel(LoopConfig())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = xray(model, inputs={"x": torch.zeros(1, 3, 16)}, train=True)
    assert seen.parameters == model.num_parameters() and "forward" not in vars(model.loop) and model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.device.type == "cpu" for parameter in model.parameters())


@pytest.mark.parametrize("name", ["clip", "vision-encoder-decoder", "encoder-decoder", "whisper", "wav2vec2"])
def test_models_of_several_inputs_run(name: str) -> None:
    card = card_for(name)
    assert card is not None
    seen = xray(card.load(card.config)(**card.tiny), auto_class=list(card.models_in("torch"))[-1], batch=3)
    assert seen.flops > 0 and not seen.notes and seen.tree is not None
    assert all(shape[0] == 3 for shape in seen.tree.takes)


# Memory ----------------------------------------------------------------------------------------------------------

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("AutoModelForCausalLM", {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 300, "n_positions": 64}),
    "llama": ("AutoModelForCausalLM", {**LLAMA, "vocab_size": 300}),
    "mixtral": ("AutoModelForCausalLM", {**MIXTRAL, "vocab_size": 300}),
    "distilbert": ("AutoModelForMaskedLM", {**DISTILBERT, "vocab_size": 300}),
    "t5": ("AutoModelForSeq2SeqLM", {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}),
    "vit": (
        "AutoModelForImageClassification",
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    ),
    "resnet": ("AutoModelForImageClassification", {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2]}),
}


def measure_step(model: Any, inputs: dict[str, Any], labels: dict[str, Any], trace: Path) -> int:
    """Give the most bytes that the second step of training allocates beside what is there before, as torch tells."""
    optimizer = torch.optim.AdamW(model.train().parameters())

    def step() -> None:
        find_loss(model(**inputs, **labels)).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        step()
    prof.export_chrome_trace(str(trace))
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("family", FAMILIES)
def test_the_peak_is_that_of_a_real_step(family: str, tmp_path: Path) -> None:
    """Within 10 %, and of most families to the byte: torch's profiler is asked, which knows nothing of ours."""
    auto_class, fields = FAMILIES[family]
    card = card_for(family)
    assert card is not None
    config = card.load(card.config)(**({"vocab_size": 300} if family == "t5" else {}), **fields)
    seen = xray(config, auto_class=auto_class, batch=4, length=48, train=True, machine="cpu")
    assert seen.run is not None
    torch.manual_seed(0)
    model = card.load(card.models[auto_class])(config)
    inputs = {
        name: torch.zeros(value.shape, dtype=value.dtype)
        for name, value in make_inputs(model, None, batch=4, length=48).items()
    }
    with torch.no_grad():
        output = {name: value.numpy() for name, value in model.eval()(**inputs).items() if name == "logits"}
    names = label_names(inspect.signature(model.forward).parameters, None)
    made = make_labels(names, output, config, model_name=type(model).__name__)
    labels = {name: torch.from_numpy(array) for name, array in made.items()}
    peak = measure_step(model, inputs, labels, tmp_path / "trace.json")
    memory = seen.run.memory
    standing = memory["weights"] + memory["buffers"] + memory["inputs"] + memory["optimizer"]
    assert memory["peak"] - standing == pytest.approx(peak, rel=0.1)


def test_the_cache_is_what_generating_keeps() -> None:
    seen = xray(LlamaConfig(**LLAMA), batch=2, length=64, dtype="bf16", **CAUSAL)
    assert seen.cache == 2 * 64 * 3 * 2 * (2 * 16) * 2  # rows, tokens, layers, keys and values, heads, bytes
    assert xray(DistilBertConfig(**DISTILBERT), length=16).cache == 0
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 100}
    seen = xray(T5Config(**sizes), batch=2, length=64, auto_class="AutoModelForSeq2SeqLM")
    assert seen.cache == 2 * (2 * 2 * 64 * 2 * 32 * 4)  # the decoder's own, and what it looks at of the encoder's


def test_large_models_take_little() -> None:
    """A trillion parameters, in a process of its own that may have 500 MB."""
    script = """
import pathlib, re
from maquette import Qwen3MoeConfig
from maquette.workshop.xray import write_page, xray
sizes = {"hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 64, "num_key_value_heads": 8}
experts = {"head_dim": 128, "moe_intermediate_size": 2048, "num_experts": 384, "num_experts_per_tok": 8}
seen = xray(Qwen3MoeConfig(**sizes, **experts, vocab_size=163840), dtype="bf16", auto_class="AutoModelForCausalLM")
assert 1.04e12 < seen.parameters < 1.05e12 and 3.2e10 < seen.tree.active < 3.3e10, seen.parameters
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500


# Files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    DistilBertForMaskedLM(DistilBertConfig(**DISTILBERT)).save_pretrained(tmp_path / "model", max_shard_size="40KB")
    return tmp_path / "model"


def test_files_are_known_from_their_headers(saved: Path) -> None:
    seen = xray(saved, length=16)
    assert seen.kind == "DistilBertForMaskedLM" and seen.weights is not None
    assert len(seen.weights.files) > 1 and seen.weights.count == seen.parameters
    assert seen.weights.types == {"F32": seen.parameters}
    assert seen.misfit == {"missing": [], "unexpected": [], "mismatched": []}


def test_experts_of_files_are_the_models(tmp_path: Path) -> None:
    MixtralForCausalLM(MixtralConfig(**MIXTRAL)).save_pretrained(tmp_path)
    assert not any(xray(tmp_path, length=16).misfit.values())


def test_what_does_not_fit_is_told(saved: Path) -> None:
    file = next(path for path in sorted(saved.glob("*.safetensors")) if "vocab_transform.bias" in load_file(path))
    tensors = load_file(file)
    tensors["vocab_transform.bias"], tensors["extra"] = torch.zeros(7), torch.zeros(2)
    save_file(tensors, file)
    misfit = xray(saved, length=16).misfit
    assert misfit["unexpected"] == ["extra"]
    assert misfit["mismatched"] == ["vocab_transform.bias: (7,) in the file, (32,) in the model"]


def test_a_repository_is_read_by_ranges(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub() as hub:
        hub.add_commit("ada/masked", {path.name: path.read_bytes() for path in saved.iterdir() if path.is_file()})
        script = """
from maquette.workshop.xray import write_page, xray
seen = xray("ada/masked", length=16)
print(seen.kind, seen.weights.count == seen.parameters, sorted(seen.weights.files.values()))
"""
        env = {**hub.environ(tmp_path / "hub"), "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        sizes = sorted(path.stat().st_size for path in saved.glob("*.safetensors"))
        assert done.stdout.split(" ", 2) == ["DistilBertForMaskedLM", "True", f"{sizes}\n"]
        asked = [request for request in hub.requests if request.path.endswith(".safetensors")]
        assert asked and all(request.status in (206, 302, 307) for request in asked if request.method == "GET")


@pytest.mark.parametrize(
    "content", [b"", b"\x10\0\0\0\0\0\0\0not json at all..", b"version https://git-lfs.github.com"]
)
def test_damaged_files_are_errors(saved: Path, content: bytes) -> None:
    next(iter(saved.glob("*.safetensors"))).write_bytes(content)
    with pytest.raises(FileFormatError, match=r"\.safetensors"):
        xray(saved)


def test_code_that_nobody_approved_does_not_run(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "code.Theirs", "AutoModel": "code.Model"}}
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "code.py").write_text("raise SystemExit('it ran')")
    seen = xray(saved)
    assert seen.tree is None and seen.weights is not None and seen.parameters == seen.weights.count
    assert "not approved" in seen.notes[0] and "maquette trust" in seen.notes[0]
    assert json.dumps(seen.to_dict()) and any("vocab_transform.bias" in text for _, text in show_lines(seen))


# What is wrong ---------------------------------------------------------------------------------------------------


def test_targets_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no file or folder"):
        xray("./nothing-here")
    with pytest.raises(UnknownNameError, match="Did you mean 'AutoModelForCausalLM'"):
        xray(LlamaConfig(), auto_class="AutoModelForCausalML")
    with pytest.raises(UnknownNameError, match="Did you mean 'h100'"):
        xray(LlamaConfig(), machine="h10")
    with pytest.raises(TypeError, match="not at a int"):
        xray(3)
    with pytest.raises(ValueError, match="at least"):
        xray(LlamaConfig(), batch=0)
    seen = xray(nn.Linear(3, 4))  # of which nobody says what it takes: its tree is there
    assert seen.run is None and seen.parameters == 16 and "dummy_inputs" in seen.notes[0]
    with pytest.raises(ConfigurationError, match="cannot be run here"):
        xray(GPT2Config(n_embd=8, n_head=2, n_layer=1, n_positions=16, vocab_size=10), length=100)


# In the terminal -------------------------------------------------------------------------------------------------


def test_what_the_terminal_shows(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = xray(saved, batch=2, length=16)
    lines = [text for _, text in show_lines(seen)]
    assert any("0 – 1 (2 alike)  TransformerBlock" in line for line in lines)
    assert any("vocab_projector.weight is distilbert.embeddings.word_embeddings.weight" in line for line in lines)
    assert len([text for _, text in show_lines(seen, depth=0)]) < len(lines)
    assert [show_count(n) for n in (0, 999, 1234, 999_999, 70_553_706_496)] == [
        "0",
        "999",
        "1.23 k",
        "1.00 M",
        "70.6 G",
    ]
    assert [show_bytes(n) for n in (12, 2048, 5 * 2**30)] == ["12 B", "2.00 KiB", "5.00 GiB"]


def test_the_command(saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from maquette.cli.main import main

    monkeypatch.setattr(sys, "argv", ["maquette", "xray", str(saved), "--length", "16", "--train", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and answer["class"] == "DistilBertForMaskedLM" and answer["train"]
    assert answer["parameters"]["tied"] == 3200 and answer["tree"]["parts"][0]["name"] == "distilbert"


# The page ---------------------------------------------------------------------------------------------------------

browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium, which opens the page, is not installed")


class Hostile(LoopModel):
    """A model with names that a page must not obey."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.add_module("</script><b>&", nn.Linear(2, 2))


def test_the_page_has_every_module_without_scripts(tmp_path: Path) -> None:
    page = read_elements(write_page(xray(Hostile, batch=2), tmp_path / "page.html").read_text())
    names = [row.one("span", cls="name").text for row in page.one("ul", cls="tree").all(cls="row")]
    assert names == [
        "module",
        "Hostile Hostile",
        "first GRU",
        *[name for name in names if name.startswith("loop Loop estimated")],
        "router Linear",
        "experts ModuleList",
        "0 – 3 4 alike Linear",
        "</script><b>& Linear",
    ]
    assert not page.all("b")


@browser
def test_areas_are_drawn_and_zoomed_and_searched(tmp_path: Path) -> None:
    path = write_page(xray(LlamaConfig(**LLAMA), length=16, **CAUSAL), tmp_path / "page.html")
    opened = open_page(path)
    tiles = {tile["data-path"]: tile for tile in opened.page.all("button", cls="tile")}
    assert not opened.console and {"", "model", "lm_head", "model.layers.0", "model.layers.0.mlp.up_proj"} <= {*tiles}

    def area(path: str) -> float:
        sides = dict(part.split(": ") for part in tiles[path]["style"].rstrip(";").split("; "))
        return float(sides["width"][:-2]) * float(sides["height"][:-2])

    mlp, attention = 3 * 64 * 96, 64 * (64 + 32 + 32) + 64 * 64
    assert area("model.layers.0.mlp") / area("model.layers.0.self_attn") == pytest.approx(mlp / attention, rel=0.15)
    acted = act(path, "zoom(root.parts[0].parts[1]); search.value = 'q_proj'; mark();")
    hits = [tile["data-path"] for tile in acted.page.all("button", cls="hit")]
    assert hits == ["model.layers.0.self_attn.q_proj"] and acted.page.one("span", cls="quiet").text == "1 in the tree"


def test_a_model_that_was_not_built_has_no_page(saved: Path, tmp_path: Path) -> None:
    (saved / "config.json").write_text('{"model_type": "nobody-knows"}')
    with pytest.raises(ConfigurationError, match="no modules to show"):
        write_page(xray(saved), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
