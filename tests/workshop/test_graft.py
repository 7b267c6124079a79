"""`maquette graft`: weights of other names, orders and shapes; every map is compared with weights that are known."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import maquette
from maquette import CheckpointError, FileFormatError, InputError, MissingFileError, SaveError, UntrustedCodeError
from maquette.checkpoint import Checkpoint
from maquette.cli.main import main
from maquette.workshop import WeightMap, graft

Tensors = dict[str, Tensor]
LLAMA = maquette.LlamaConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=30, tie_word_embeddings=False,
)  # fmt: skip
MOE = maquette.Qwen3MoeConfig(
    num_hidden_layers=2, hidden_size=16, num_attention_heads=2, num_key_value_heads=2, intermediate_size=16,
    moe_intermediate_size=8, num_experts=4, num_experts_per_tok=2, head_dim=8, vocab_size=30,
)  # fmt: skip
GPT2 = maquette.GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=30, n_positions=12)
BERT = maquette.BertConfig(
    num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=24, vocab_size=30
)
DISTIL = maquette.DistilBertConfig(n_layers=2, dim=16, n_heads=4, hidden_dim=24, vocab_size=30)


def draw(model: nn.Module) -> nn.Module:
    """Give every weight numbers of its own."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def weights(model: nn.Module) -> Tensors:
    return {name: x.clone() for name, x in model.state_dict().items()}


def rename(tensors: Tensors, *rules: tuple[str, str]) -> Tensors:
    found = {}
    for name, x in tensors.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[name] = x
    return found


# Disguises: what other code would have saved of the same weights --------------------------------------------------


def as_nano_gpt(tensors: Tensors) -> Tensors:
    """Linear layers, and the buffer of a causal mask."""
    turned = {name: x.t() if re.search(r"c_\w+\.weight", name) else x for name, x in tensors.items()}
    return turned | {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 12, 12).tril() for n in range(2)}


def in_three(tensors: Tensors) -> Tensors:
    """GPT-2 with queries, keys and values of their own, as linear layers."""
    found = {}
    for name, x in as_nano_gpt(tensors).items():
        if "c_attn" in name:
            found |= {name.replace("c_attn", f"{one}_proj"): part for one, part in zip("qkv", x.chunk(3), strict=True)}
        else:
            found[name] = x
    return found


def as_meta(tensors: Tensors) -> Tensors:
    """Llama's first names, and rows of queries and keys in pairs."""
    found = {}
    for name, x in tensors.items():
        if heads := {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2]):
            x = x.unflatten(0, (heads, 2, 2)).transpose(1, 2).flatten(0, 2)
        found[name] = x
    return rename(
        found, (r"^model\.", ""), ("embed_tokens", "tok_embeddings"), (r"self_attn\.(\w)_proj", r"attention.w\1"),
        ("mlp.gate_proj", "feed_forward.w1"), ("mlp.up_proj", "feed_forward.w3"), ("lm_head", "output"),
        ("mlp.down_proj", "feed_forward.w2"), ("input_layernorm", "attention_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    )  # fmt: skip


def as_old_bert(tensors: Tensors) -> Tensors:
    return rename(tensors, (r"LayerNorm\.weight", "LayerNorm.gamma"), (r"LayerNorm\.bias", "LayerNorm.beta"))


def fused(tensors: Tensors, *, by_head: bool) -> Tensors:
    """Queries, keys and values of DistilBERT as one tensor."""
    found: Tensors = {}
    for name, x in tensors.items():
        if not (part := re.search(r"\.(q|k|v)_lin\.", name)):
            found[name] = x
        elif part[1] == "q":
            three = [tensors[name.replace(".q_lin.", f".{one}_lin.")] for one in "qkv"]
            whole = torch.cat(three)
            if by_head:
                whole = torch.stack([each.unflatten(0, (4, -1)) for each in three], 1).flatten(0, 2)
            found[name.replace("q_lin", "query_key_value" if by_head else "qkv")] = whole
    return found


def stacked(tensors: Tensors, *, turned: bool) -> Tensors:
    """All experts of a layer as one tensor, gates before what they gate."""
    found = {name: x for name, x in tensors.items() if "experts" not in name}
    for layer in range(2):
        start = f"model.layers.{layer}.mlp.experts."
        gate, up, down = (
            torch.stack([tensors[f"{start}{n}.{one}_proj.weight"] for n in range(4)]) for one in ("gate", "up", "down")
        )
        both = torch.cat([gate, up], 1)
        found |= {start + "gate_up_proj": both.mT if turned else both, start + "down_proj": down.mT if turned else down}
    return found


JOINED, HALVES = {"qkv": "one after the other"}, {"gate_up": "one after the other"}
PAIRS: dict[str, tuple[Any, Any, Any, dict[str, str]]] = {
    "nanoGPT to GPT-2": (maquette.GPT2LMHeadModel, GPT2, as_nano_gpt, {}),
    "three projections to GPT-2": (maquette.GPT2LMHeadModel, GPT2, in_three, {}),
    "Meta's Llama": (maquette.LlamaForCausalLM, LLAMA, as_meta, {"rotary": "in pairs"}),
    "names of 2018 to BERT": (maquette.BertForMaskedLM, BERT, as_old_bert, {}),
    "one qkv to DistilBERT": (maquette.DistilBertForMaskedLM, DISTIL, lambda x: fused(x, by_head=False), JOINED),
    "qkv in each head": (
        maquette.DistilBertForMaskedLM, DISTIL, lambda x: fused(x, by_head=True), {"qkv": "within each head"}
    ),
    "stacked experts": (maquette.Qwen3MoeForCausalLM, MOE, lambda x: stacked(x, turned=False), HALVES),
    "stacked, turned experts": (maquette.Qwen3MoeForCausalLM, MOE, lambda x: stacked(x, turned=True), HALVES),
    "single experts": (maquette.Qwen3MoeForCausalLM, MOE, dict, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_disguised_weights_come_back(name: str, tmp_path: Path) -> None:
    """Every number, through the folder too; what had to be asked was asked; and the map reads both ways."""
    kind, config, disguise, answers = PAIRS[name]
    expected = weights(draw(kind(config)))
    source = {key: x.contiguous() for key, x in disguise(expected).items()}
    asked = graft(source, kind(config))
    assert {question.name for question in asked.map.questions} == {*answers}
    assert asked.is_whole == (not answers)
    found = graft(source, kind(config), tmp_path / "model", answers=answers)
    assert found.is_whole and found.apart is None
    loaded = kind.from_pretrained(tmp_path / "model").state_dict()
    for key, x in expected.items():
        assert torch.equal(loaded[key], x), key
    again = WeightMap.load(tmp_path / "model" / "graft.json")
    assert sorted(again.rules, key=lambda rule: rule.target) == sorted(found.map.rules, key=lambda rule: rule.target)
    back = again.reverse(expected)
    tied_or_masks = (".attn.bias", "lm_head.weight", "decoder.weight", "decoder.bias", "vocab_projector.weight")
    kept = {key for key in source if not key.endswith(tied_or_masks)}
    assert kept <= {*back}
    for key, x in back.items():
        assert torch.equal(x, source[key]), key
    assert graft(source, kind(config), map=again).is_whole


@pytest.fixture(scope="module")
def timm() -> Iterator[ModuleType]:
    """It imports torchvision, whose compiled part need not fit the installed torch; two operators are declared here."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield pytest.importorskip("timm", reason="weights of timm are brought into ours")
    del library


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_models_of_timm_give_the_same_logits(kind: str, timm: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any
    if kind == "vit":
        original = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=10, img_size=32)
        config = maquette.ViTConfig(
            hidden_size=192, num_hidden_layers=2, num_attention_heads=3, intermediate_size=768, image_size=32,
            num_labels=10, layer_norm_eps=1e-6,
        )  # fmt: skip
        model = maquette.ViTForImageClassification(config)
    else:
        original = timm.create_model("resnet26", num_classes=10, zero_init_last=False)
        model = maquette.ResNetForImageClassification(maquette.ResNetConfig(depths=[2, 2, 2, 2], num_labels=10))
    found = graft(original, model)
    assert found.is_whole and {rule.confidence for rule in found.map.rules} == {"certain"}
    assert found.compared == "logits" and found.apart is not None and found.apart < 1e-4
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.add_(0.01)
    assert graft(original, model, map=found.map).apart < 1e-4  # of the changed one
    if kind == "vit":  # a square matrix that is turned comes to light
        squares = [rule for rule in found.map.rules if rule.shape == (192, 192) and rule.split is None]
        wrong = [rule for rule in found.map.rules if rule not in squares]
        wrong += [replace(rule, transpose=True) for rule in squares]
        other = graft(original, model, tmp_path / "wrong", map=WeightMap(wrong))
        assert other.differs and not other.is_whole and not (tmp_path / "wrong").exists()


def test_torchs_encoder_comes_into_distilbert() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 24, activation="gelu", batch_first=True, layer_norm_eps=1e-12)
    original = draw(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).eval()
    model = maquette.DistilBertModel(DISTIL).eval()
    without = graft(original, model)
    assert not without.is_whole and without.missing == [n for n in model.state_dict() if n.startswith("embeddings.")]

    def run(input_ids: Tensor) -> Tensor:
        return original(model(input_ids, output_hidden_states=True).hidden_states[0])

    ids = torch.arange(12).view(2, 6)
    found = graft(original, model, fresh=["embeddings.*"], run=run, inputs={"input_ids": ids})
    assert found.is_whole and found.compared == "last_hidden_state" and found.apart is not None and found.apart < 1e-4


# What is asked ------------------------------------------------------------------------------------------------------


class Twins(maquette.PreTrainedModel):
    config_class = maquette.LlamaConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.left, self.right, self.top = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 9)


def test_twins_are_asked_about_and_not_guessed() -> None:
    sizes = {"a": (4, 4), "b": (4, 4), "c": (9, 4)}
    source = {f"{name}.weight": torch.randn(size) for name, size in sizes.items()}
    source |= {f"{name}.bias": torch.randn(size[0]) for name, size in sizes.items()}
    found = graft(source, Twins(LLAMA))
    asked = {question.name: question.choices for question in found.map.questions}
    assert asked["left.weight"] == asked["right.weight"] == ("a.weight", "b.weight")
    assert {rule.target for rule in found.map.rules} == {"top.weight", "top.bias"}
    assert {rule.confidence for rule in found.map.rules} == {"likely"}
    answers = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in (("left", "b"), ("right", "a"))
               for kind in ("weight", "bias")}  # fmt: skip
    model = Twins(LLAMA)
    assert graft(source, model, answers=answers).is_whole
    assert torch.equal(model.left.weight, source["b.weight"]) and torch.equal(model.right.bias, source["a.bias"])
    with pytest.raises(InputError, match=r"Choose: 'a\.weight', 'b\.weight'"):
        graft(source, Twins(LLAMA), answers={"left.weight": "c.weight"})
    with pytest.raises(InputError, match=r"no question 'left\.wieght' to answer\. Did you mean 'left\.weight'"):
        graft(source, Twins(LLAMA), answers={"left.wieght": "a.weight"})


class Squares(maquette.PreTrainedModel):
    config_class = maquette.LlamaConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 4)


def test_square_matrices_are_asked_about_where_nothing_tells() -> None:
    source = {f"net.{layer}.{kind}": torch.randn(4, 4) if kind == "weight" else torch.randn(4)
              for layer in ("lin1", "lin2") for kind in ("weight", "bias")}  # fmt: skip
    found = graft(source, Squares(LLAMA))
    assert [question.name for question in found.map.questions] == ["orientation"] and not found.missing
    for answer, turned in (("as it is", False), ("transposed", True)):
        model = Squares(LLAMA)
        assert graft(source, model, answers={"orientation": answer}).is_whole
        wanted = source["net.lin1.weight"]
        assert torch.equal(model.fc1.weight, wanted.t() if turned else wanted)


def test_what_could_be_another_order_is_no_guess() -> None:
    """Kernels with other axes, patches as vectors, a layer that is absent, and rows in turns or in groups."""
    config = maquette.ResNetConfig(depths=[1, 1], hidden_sizes=[16, 32], embedding_size=8, num_labels=5)
    known = weights(draw(maquette.ResNetForImageClassification(config)))
    for axes in ((2, 3, 1, 0), (3, 2, 1, 0)):
        source = {name: x.permute(axes) if x.ndim == 4 else x for name, x in known.items()}
        found = graft(source, maquette.ResNetForImageClassification(config))
        kernels = {name for name, x in known.items() if x.ndim == 4 and x.shape != x.permute(axes).shape}
        assert kernels <= {*found.missing} and found.model is None
    vit = maquette.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4
    )
    known = weights(draw(maquette.ViTForImageClassification(vit)))
    source = {name: x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x for name, x in known.items()}
    assert graft(source, maquette.ViTForImageClassification(vit)).missing == [n for n in known if known[n].ndim == 4]
    source = as_meta(weights(draw(maquette.LlamaForCausalLM(LLAMA))))
    del source["layers.0.attention.wv.weight"]
    found = graft(source, maquette.LlamaForCausalLM(LLAMA))
    assert found.missing == ["model.layers.0.self_attn.v_proj.weight"]
    known = weights(draw(maquette.Qwen3MoeForCausalLM(MOE)))
    source = stacked(known, turned=False)
    for name in [name for name in source if "gate_up" in name]:
        gate, up = source[name].chunk(2, 1)
        source[name] = torch.stack([gate, up], 2).flatten(1, 2)
    model = maquette.Qwen3MoeForCausalLM(MOE)
    assert graft(source, model, answers={"gate_up": "by turns"}).is_whole
    assert all(torch.equal(x, known[name]) for name, x in model.state_dict().items())


def test_queries_that_share_keys_lie_in_groups() -> None:
    known, source = weights(draw(maquette.LlamaForCausalLM(LLAMA))), {}
    for name, x in known.items():
        if "q_proj" in name:  # two heads of queries, one of keys, one of values
            three = (known[name.replace("q_proj", f"{one}_proj")].unflatten(0, (2, -1)) for one in "qkv")
            source[name.replace("q_proj", "wqkv")] = torch.cat([*three], 1).flatten(0, 1)
        elif not re.search("[kv]_proj", name):
            source[name] = x
    found = graft(source, maquette.LlamaForCausalLM(LLAMA))
    assert [question.name for question in found.map.questions] == ["qkv"]
    model = maquette.LlamaForCausalLM(LLAMA)
    answers = {"qkv": "within each head", "rotary": "half by half"}
    assert graft(source, model, answers=answers).is_whole
    assert all(torch.equal(x, known[name]) for name, x in model.state_dict().items())


# Bad input ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    source = weights(draw(maquette.LlamaForCausalLM(LLAMA)))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(SaveError, match="has something in it"):
        graft(source, maquette.LlamaForCausalLM(LLAMA), full)
    with pytest.raises(MissingFileError):
        graft(tmp_path / "nothing.safetensors", maquette.LlamaForCausalLM(LLAMA))
    with pytest.raises(InputError, match="no file of weights"):
        graft(full / "mine.txt", maquette.LlamaForCausalLM(LLAMA))
    found = graft(source, maquette.LlamaForCausalLM(LLAMA)).map
    short = {name: x for name, x in source.items() if "q_proj" not in name}
    with pytest.raises(CheckpointError, match=r"q_proj\.weight, which the checkpoint does not have"):
        graft(short, maquette.LlamaForCausalLM(LLAMA), map=found)
    part = graft(source, maquette.LlamaForCausalLM(LLAMA), tmp_path / "no", map=WeightMap(found.rules[1:]))
    assert part.missing == [found.rules[0].target] and not (tmp_path / "no").exists()
    larger = maquette.LlamaForCausalLM(maquette.LlamaConfig(**{**LLAMA.to_dict(), "intermediate_size": 32}))
    with pytest.raises(CheckpointError, match="made for a model of another size"):
        graft(source, larger, map=found)
    (tmp_path / "map.json").write_text("{}")
    with pytest.raises(FileFormatError, match="is no map of weights"):
        graft(source, maquette.LlamaForCausalLM(LLAMA), map=tmp_path / "map.json")


def test_code_that_was_not_approved_does_not_run(tmp_path: Path) -> None:
    LLAMA.save_pretrained(tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    (tmp_path / "theirs" / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UntrustedCodeError):
        graft({}, str(tmp_path / "theirs"))


def test_a_target_whose_code_may_not_run_is_seen_by_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A map is proposed from names and shapes; squares are asked about, nothing is written, and it is said why."""
    maquette.BertModel(BERT).save_pretrained(tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    (tmp_path / "theirs" / "code.py").write_text("raise SystemExit('ran')")
    save_file(as_old_bert(weights(maquette.BertModel(BERT))), tmp_path / "old.safetensors")
    words = ("graft", tmp_path / "old.safetensors", tmp_path / "theirs", tmp_path / "made")
    assert call(monkeypatch, *words, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert "none of it ran" in told["notes"][0] and "maquette trust" in told["notes"][0] and not told["is_whole"]
    assert not told["missing"] and not told["questions"] and not (tmp_path / "made").exists()
    assert {rule["target"] for rule in told["rules"]} == {*maquette.BertModel(BERT).state_dict()}
    assert call(monkeypatch, *words) == 1 and "none of it ran" in " ".join(capsys.readouterr().out.split())


# The files ----------------------------------------------------------------------------------------------------------


def test_which_blocks_of_a_deeper_model_is_asked(tmp_path: Path) -> None:
    deep = maquette.BertModel(maquette.BertConfig(**{**BERT.to_dict(), "num_hidden_layers": 5}))
    source = weights(draw(deep))
    asked = graft(source, maquette.BertModel(BERT), tmp_path / "no")
    assert [question.name for question in asked.map.questions] == ["blocks"] and not (tmp_path / "no").exists()
    question = asked.map.questions[0]
    assert question.choices == ("0, 1", "0, 4", "3, 4") and "has 5 blocks, the model 2" in question.text
    assert all(".layer." in name for name in question.targets) and not asked.missing
    for answer, blocks in (("0, 4", (0, 4)), ("3,1", (3, 1))):
        found = graft(source, maquette.BertModel(BERT), answers={"blocks": answer})
        assert found.is_whole
        for mine, theirs in enumerate(blocks):
            name = "encoder.layer.{}.attention.self.query.weight"
            assert torch.equal(found.model.state_dict()[name.format(mine)], source[name.format(theirs)])
    for wrong in ("0", "0, 5", "1, 1", "some"):
        with pytest.raises(InputError, match=r"blocks=.* is no answer"):
            graft(source, maquette.BertModel(BERT), answers={"blocks": wrong})


def test_stages_with_more_blocks_are_asked_about_one_by_one() -> None:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "layer_type": "basic"}
    deep = maquette.ResNetModel(maquette.ResNetConfig(**sizes, depths=[3, 2]))
    model = maquette.ResNetModel(maquette.ResNetConfig(**sizes, depths=[2, 2]))
    asked = graft(weights(draw(deep)), model)
    assert [question.name for question in asked.map.questions] == ["blocks-0"]
    assert graft(weights(deep), model, answers={"blocks-0": "0, 2"}).is_whole


def test_the_same_architecture_needs_no_answers(tmp_path: Path) -> None:
    """With or without the base model's prefix, and where every matrix is square."""
    config = maquette.BertConfig(**{**BERT.to_dict(), "intermediate_size": 16})
    model = draw(maquette.BertModel(config))
    model.save_pretrained(tmp_path / "base")
    found = graft(tmp_path / "base", maquette.BertForSequenceClassification(config), fresh=["classifier.*"])
    assert found.is_whole and {rule.confidence for rule in found.map.rules} == {"certain"}
    name = "encoder.layer.1.output.dense.weight"
    assert torch.equal(found.model.state_dict()[f"bert.{name}"], model.state_dict()[name])


def test_a_proposal_reads_headers_alone(tmp_path: Path) -> None:
    """Of a file whose values are cut off: the map is proposed, and only then they are missed."""
    source = {name: x.contiguous() for name, x in as_meta(weights(draw(maquette.LlamaForCausalLM(LLAMA)))).items()}
    save_file(source, tmp_path / "theirs.safetensors")
    read: list[str] = []
    real = Checkpoint.tensors

    def note(self: Checkpoint, names: list[str], **options: Any) -> Any:
        read.extend(names)
        return real(self, names, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "tensors", note)
        asked = graft(tmp_path / "theirs.safetensors", maquette.LlamaForCausalLM(LLAMA))
        assert asked.map.questions and not read
        answers = {"rotary": "in pairs"}
        assert graft(tmp_path / "theirs.safetensors", maquette.LlamaForCausalLM(LLAMA), answers=answers).is_whole
        assert {*read} == {*source}


def test_no_model_is_written_without_its_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = weights(draw(maquette.LlamaForCausalLM(LLAMA)))
    model = maquette.LlamaForCausalLM(LLAMA)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    for cls, method in ((WeightMap, "save"), (maquette.LlamaForCausalLM, "save_pretrained")):
        with monkeypatch.context() as patch:
            patch.setattr(cls, method, fail)
            with pytest.raises(OSError, match="No space left"):
                graft(source, model, tmp_path / "made")
        assert not (tmp_path / "made").exists()
    assert graft(source, model, tmp_path / "made").folder is not None


# The command --------------------------------------------------------------------------------------------------------


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["maquette", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    model = draw(maquette.LlamaForCausalLM(LLAMA))
    save_file({name: x.contiguous() for name, x in as_meta(weights(model)).items()}, tmp_path / "theirs.safetensors")
    LLAMA.save_pretrained(tmp_path / "config")
    words = ("graft", tmp_path / "theirs.safetensors", tmp_path / "config", tmp_path / "made")
    words += ("--as", "AutoModelForCausalLM")
    assert call(monkeypatch, *words) == 1
    shown = capsys.readouterr().out
    assert "model.layers.{}.self_attn.v_proj.weight" in shown and "layers.{}.attention.wv.weight" in shown
    assert "--answer 'rotary=…': half by half, in pairs" in shown and not (tmp_path / "made").exists()
    assert call(monkeypatch, *words, "--answer", "rotary=in pairs", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["is_whole"] and told["apart"] is None and not told["questions"]
    found = maquette.LlamaForCausalLM.from_pretrained(tmp_path / "made")
    assert torch.equal(found.model.layers[1].self_attn.q_proj.weight, model.model.layers[1].self_attn.q_proj.weight)
    assert call(monkeypatch, *words, "--map", tmp_path / "made" / "graft.json") == 2  # the folder is there
    other = (*words[:3], tmp_path / "other", *words[4:], "--map", tmp_path / "made" / "graft.json")
    assert call(monkeypatch, *other) == 0
    assert call(monkeypatch, *words[:3], "--answer", "rotary") == 2
    assert call(monkeypatch, "graft", tmp_path / "theirs.safetensors", tmp_path / "nothing") == 2


def test_the_command_compares_with_a_function_of_yours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = draw(maquette.BertModel(BERT))
    model.save_pretrained(tmp_path / "theirs")
    (tmp_path / "original_of_mine.py").write_text(
        "import maquette\nmodel = maquette.BertModel.from_pretrained('theirs')\n"
        "def run(input_ids):\n    return model(input_ids).last_hidden_state\n"
        "def other(input_ids):\n    return run(input_ids) + 1\n"
    )
    (tmp_path / "inputs.json").write_text('{"input_ids": [[3, 5, 7]]}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    words = ("graft", "theirs/model.safetensors", "theirs", "made", "--input", "inputs.json", "--json", "--run")
    assert call(monkeypatch, *words, "original_of_mine:other") == 1
    assert json.loads(capsys.readouterr().out)["differs"] and not (tmp_path / "made").exists()
    assert call(monkeypatch, *words, "original_of_mine:run") == 0
    assert json.loads(capsys.readouterr().out)["apart"] < 1e-5
    assert call(monkeypatch, *words, "original_of_mine") == 2
    monkeypatch.delitem(sys.modules, "original_of_mine")
