"""Saves in company: accelerate's way of saving, divided and quantised tensors, checkpoints of other tools."""

import io
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from maquette import DistilBertConfig, DistilBertForSequenceClassification, PretrainedConfig, PreTrainedModel, SaveError
from maquette.modeling import common

CONFIG = {"vocab_size": 16, "dim": 8, "hidden_dim": 16, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 8}


def make_model() -> DistilBertForSequenceClassification:
    return DistilBertForSequenceClassification(DistilBertConfig(**CONFIG))


def test_the_line_of_every_accelerate_example(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    common._say_unused.cache_clear()
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(make_model())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            accelerator.unwrap_model(model).save_pretrained(
                tmp_path,
                is_main_process=accelerator.is_main_process,
                save_function=accelerator.save,
                state_dict=accelerator.get_state_dict(model),
                safe_serialization=True,
                max_shard_size="2KB",
            )
    assert [message for message in caplog.messages if "save_function" in message] == [
        "save_pretrained(save_function=…) has no effect here: weights are safetensors, all there or not there."
    ]
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = DistilBertForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), make_own(model).state_dict(), rtol=0, atol=0)
    make_model().save_pretrained(tmp_path / "not", is_main_process=False, save_function=accelerator.save)
    assert not (tmp_path / "not").exists()


def make_own(model: Any) -> nn.Module:
    return getattr(model, "module", model)


class Wrapped(torch.Tensor):
    """A tensor that keeps its values in another, as torchao's do."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Wrapped":
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=torch.float32)
        made.inner = inner
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: Any) -> "Wrapped":
        return Wrapped(inner["inner"])

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.detach.default:
            return cls(args[0].inner)
        raise NotImplementedError(str(function))


def test_tensors_that_keep_their_values_elsewhere_are_refused(tmp_path: Path) -> None:
    model = make_model()
    model.classifier.weight = nn.Parameter(Wrapped(torch.zeros(2, 8, dtype=torch.int8)), requires_grad=False)
    with pytest.raises(SaveError, match=r"classifier.weight and 0 others are tensors of the class Wrapped.*quantise"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_divided_says_how_it_is_saved(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = make_model()
        expected = {name: value.clone() for name, value in model.state_dict().items()}
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(SaveError, match=r"is divided among processes .*get_model_state_dict"):
            model.save_pretrained(tmp_path / "no")
        state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        model.save_pretrained(tmp_path / "yes", state_dict=state)
    finally:
        torch.distributed.destroy_process_group()
    loaded = DistilBertForSequenceClassification.from_pretrained(tmp_path / "yes")
    assert loaded.config.architectures == ["DistilBertForSequenceClassification"]
    torch.testing.assert_close(dict(loaded.state_dict()), expected, rtol=0, atol=0)


class OwnConfig(PretrainedConfig):
    """A configuration of the user's own."""

    model_type = "own-in-hyperparameters"
    dim: int = 4


class Own(PreTrainedModel):
    """A model that names its configuration by an annotation."""

    config: OwnConfig


def test_hyperparameters_that_hold_a_configuration_load_by_default() -> None:
    for config in (DistilBertConfig(**CONFIG), OwnConfig(dim=3)):
        file = io.BytesIO()
        torch.save({"hyper_parameters": {"config": config}}, file)
        file.seek(0)
        assert torch.load(file)["hyper_parameters"]["config"] == config
