"""Weights from elsewhere: other prefixes, other names, state dicts; and what is said where they do not fit."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maquette import (
    CheckpointError,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertModel,
    PretrainedConfig,
    PreTrainedModel,
)
from maquette.checkpoint import ExpectedParameters, match

TINY = {"dim": 8, "hidden_dim": 16, "n_layers": 6, "n_heads": 2, "vocab_size": 20, "max_position_embeddings": 8}
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def own() -> Weights:
    torch.manual_seed(0)
    return {name: value.clone() for name, value in DistilBertModel(DistilBertConfig(**TINY)).state_dict().items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    DistilBertConfig(**TINY).save_pretrained(tmp_path)
    return tmp_path


def refusal(folder: Path, weights: Weights, **options) -> list[str]:
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        DistilBertModel.from_pretrained(folder, **options)
    return str(error.value).splitlines()


def respell(weights: Weights, *pairs: tuple[str, str]) -> Weights:
    for old, new in pairs:
        weights = {re.sub(old, new, name): value for name, value in weights.items()}
    return weights


def test_a_foreign_prefix_is_named_and_the_advice_works(folder: Path, own: Weights) -> None:
    lines = refusal(folder, respell(own, ("^", "vision_model.")))
    assert "Of its 100 weights, 0 fit, 100 missing; 100 of the file fit nowhere:" in lines[0]
    advice = next(line for line in lines if "vision_model.`" in line)
    mapping = {r"^vision_model\.": ""}
    assert repr(r"^vision_model\.").replace("\\\\", "\\") in advice
    model = DistilBertModel.from_pretrained(folder, key_mapping=mapping)
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    assert not any("allow_missing" in line for line in lines)  # to initialise everything is no advice
    assert len(lines) < 30


def test_a_prefix_that_the_file_lacks_is_named_and_the_advice_works(tmp_path: Path, own: Weights) -> None:
    class Around(PreTrainedModel):
        config_class = DistilBertConfig

        def __init__(self, config: DistilBertConfig) -> None:
            super().__init__(config)
            self.inner = DistilBertModel(config)

    DistilBertConfig(**TINY).save_pretrained(tmp_path)
    save_file(own, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=re.escape("key_mapping={'^': 'inner.'}")):
        Around.from_pretrained(tmp_path)
    model = Around.from_pretrained(tmp_path, key_mapping={"^": "inner."})
    assert torch.equal(model.inner.embeddings.word_embeddings.weight, own["embeddings.word_embeddings.weight"])


def test_names_are_grouped_and_paired_by_shape(folder: Path, own: Weights) -> None:
    lines = refusal(folder, respell(own, ("q_lin", "query"), (r"ffn\.lin1", "ffn.up")))
    missing = [line for line in lines if ": not in the file" in line]
    assert len(missing) == 4
    assert (
        "  - transformer.layer.*.ffn.lin1.weight (6): not in the file (of its shape there: "
        "transformer.layer.*.ffn.up.weight)"
    ) in missing
    assert "Of its 100 weights, 76 fit, 24 missing; 24 of the file fit nowhere:" in lines[0]


def test_few_names_stay_whole_and_a_like_name_of_another_shape_is_not_offered(folder: Path, own: Weights) -> None:
    weights = dict(own)
    weights["embeddings.LayerNorm.scale_x"] = weights.pop("embeddings.LayerNorm.weight")
    weights["embeddings.LayerNorm.bias_x"] = torch.ones(3)
    del weights["embeddings.LayerNorm.bias"]
    text = "\n".join(refusal(folder, weights))
    assert "LayerNorm.weight: not in the file (of its shape there: embeddings.LayerNorm.scale_x)" in text
    assert "embeddings.LayerNorm.bias_x)" not in text


def test_many_other_shapes_are_grouped(folder: Path, own: Weights) -> None:
    weights = {name: value[:2].clone() if "ffn" in name else value for name, value in own.items()}
    lines = refusal(folder, weights)
    assert "  - transformer.layer.*.ffn.lin1.weight (6): another shape in the file" in lines
    assert lines[-1].startswith("If that is meant, pass ignore_mismatched_sizes=True")


def test_another_architecture_is_told_in_few_lines(folder: Path, own: Weights) -> None:
    weights = {
        f"part{n}.block{m}.{name[-5:]}": torch.ones(1) for n in range(30) for m in range(9) for name in ("abcde",)
    }
    lines = refusal(folder, weights)
    assert any(line.startswith("Nothing fits: is it a checkpoint of this architecture?") for line in lines)
    assert len(lines) < 40


@pytest.mark.parametrize("part", ["layer", "model", "model_extra"])
def test_prefixes_that_are_also_names_of_parts(part: str) -> None:
    """The rename that fits most is taken; before, what the names begin with decided."""
    base = {f"{part}.weight": (3, 3), "embed.weight": (4, 3)}
    headed = {**{f"model.{name}": shape for name, shape in base.items()}, "score.weight": (2, 3)}
    for file, model in ((base, headed), (headed, base), (headed, headed), (base, base)):
        report = match(file, ExpectedParameters(dict(model)), prefix="model")
        assert len(report.assigned) == 2 + (file is model is headed), (file, model)
        assert all(model[name] == file[key] for name, key in report.assigned.items())


def test_shapes_decide_between_two_fits() -> None:
    """`model.weight` is a name of both here; only with the prefix do the shapes agree."""
    expected = ExpectedParameters({"model.model.weight": (3, 3), "model.weight": (5,)})
    assert match({"model.weight": (3, 3)}, expected, prefix="model").assigned == {"model.model.weight": "model.weight"}


def test_a_head_named_as_a_part_of_the_base_is_new(tmp_path: Path) -> None:
    class NamesConfig(PretrainedConfig):
        model_type = "part-names"

    class Base(PreTrainedModel):
        config_class = NamesConfig
        base_model_prefix = "base"

        def __init__(self, config: NamesConfig) -> None:
            super().__init__(config)
            self.score = nn.Linear(3, 3)

    class Head(PreTrainedModel):
        config_class = NamesConfig
        base_model_prefix = "base"

        def __init__(self, config: NamesConfig) -> None:
            super().__init__(config)
            self.base = Base(config)
            self.score = nn.Linear(3, 2)

    base = Base(NamesConfig())
    base.save_pretrained(tmp_path)
    model, info = Head.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == ["score.weight", "score.bias"]
    assert torch.equal(model.base.score.weight, base.score.weight)


def test_key_mapping_replaces_in_turn_and_only_once(folder: Path, own: Weights) -> None:
    """As the peer's: regular expressions, groups in replacements, each pattern's first match, one after the other."""
    foreign = respell(own, (r"transformer\.layer\.(\d+)\.", r"blocks.b\1."), ("^embeddings", "tables"))
    save_file(foreign, folder / "model.safetensors")
    mapping = {r"^blocks\.b(\d+)": r"transformer.layer.\1", "^tab": "tab", "^tables": "embeddings"}
    model, info = DistilBertModel.from_pretrained(folder, key_mapping=mapping, strict=True, output_loading_info=True)
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    assert info["missing_keys"] == info["unexpected_keys"] == []


def test_key_mapping_never_merges_two_weights(folder: Path, own: Weights) -> None:
    save_file(own, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)two weights.*one name.*k_lin.* and .*q_lin|q_lin.* and .*k_lin"):
        DistilBertModel.from_pretrained(folder, key_mapping={"[kq]_lin": "q_lin"})


def test_a_state_dict_in_place_of_the_file(folder: Path, own: Weights) -> None:
    """No weights file is needed, nor looked at; a head is new as ever, and the weights given stay the caller's own."""
    given = {name: value.clone() for name, value in own.items()}
    model, info = DistilBertForMaskedLM.from_pretrained(folder, state_dict=given, output_loading_info=True)
    assert {name.partition(".")[0] for name in info["missing_keys"]} == {
        "vocab_transform",
        "vocab_layer_norm",
        "vocab_projector",
    }
    for name, value in given.items():
        mine = model.distilbert.state_dict()[name]
        assert torch.equal(mine, value)
        assert mine.data_ptr() != value.data_ptr()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(given[name], value) for name, value in own.items())


def test_a_state_dict_and_a_configuration_need_no_folder(own: Weights) -> None:
    arrays = {f"net.{name}": value.numpy() for name, value in own.items()}
    config = DistilBertConfig(**TINY)
    model = DistilBertModel.from_pretrained(None, config=config, state_dict=arrays, key_mapping={r"^net\.": ""})
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    half = DistilBertModel.from_pretrained(None, config=config, state_dict=own, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert not np.shares_memory(model.embeddings.word_embeddings.weight.detach().numpy(), next(iter(arrays.values())))


@pytest.mark.parametrize("options", [{}, {"config": DistilBertConfig(**TINY)}, {"state_dict": {}}])
def test_nothing_to_read_from_is_an_error(options) -> None:
    with pytest.raises(TypeError, match=r"from_pretrained\(None\) needs config=<an object> and state_dict="):
        DistilBertModel.from_pretrained(None, **options)


def test_a_state_dict_holds_tensors() -> None:
    with pytest.raises(TypeError, match=r"(?s)state_dict= takes names and tensors.*epoch: a int"):
        DistilBertModel.from_pretrained(None, config=DistilBertConfig(**TINY), state_dict={"epoch": 3})
