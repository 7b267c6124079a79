"""Outputs and batches survive what libraries do with containers: rebuild, flatten, copy, gather, replace, extend."""

import copy
import dataclasses
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny
from torch.utils import _pytree as pytree

from maquette import BatchEncoding, BatchFeature, ModelOutput, SequenceClassifierOutput


class Scored(ModelOutput):
    scores: torch.Tensor
    extra: tuple[torch.Tensor, ...] | None = None


@dataclasses.dataclass
class Decorated(ModelOutput):
    """As code for transformers writes it."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor = None  # type: ignore[assignment]
    count: int = 3


def extended() -> SequenceClassifierOutput:
    output = SequenceClassifierOutput(logits=torch.arange(6.0).view(2, 3))
    output["target_size"] = (4, 5)
    return output


SAMPLES: dict[str, Callable[[], Any]] = {
    "built-in": lambda: SequenceClassifierOutput(loss=torch.tensor(1.0), logits=torch.ones(2, 3)),
    "without a loss": lambda: SequenceClassifierOutput(logits=torch.ones(2, 3), attentions=(torch.ones(2),)),
    "a key beside the fields": extended,
    "a required field": lambda: Scored(scores=torch.ones(2), extra=(torch.zeros(1), torch.ones(1))),
    "a decorated class": lambda: Decorated(logits=torch.ones(2)),
    "batch": lambda: BatchFeature({"pixel_values": torch.ones(2, 3)}),
    "encoding": lambda: BatchEncoding({"input_ids": torch.ones(2, 3).long(), "attention_mask": torch.ones(2, 3)}),
}
REBUILD: dict[str, Callable[[Any], Any]] = {
    "dictionary": lambda held: type(held)(dict(held)),
    "ordered": lambda held: type(held)(OrderedDict(held)),
    "comprehension": lambda held: type(held)({name: held[name] for name in held}),
    "pairs": lambda held: type(held)([(name, held[name]) for name in held]),
    "generator": lambda held: type(held)((name, held[name]) for name in held),
    "items": lambda held: type(held)(held.items()),
    "itself": lambda held: type(held)(held),
    "pytree": lambda held: pytree.tree_map(lambda x: x, held),
    "paths": lambda held: pytree.tree_map_with_path(lambda path, x: x, held),
    "copy": copy.copy,
    "method": lambda held: held.copy(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda held: pickle.loads(pickle.dumps(held)),
}


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    assert list(one) == list(other)
    torch.testing.assert_close(dict(one), dict(other), rtol=0, atol=0)
    for name in one:
        assert getattr(one, name) is one[name]


@pytest.mark.parametrize("rebuild", REBUILD.values(), ids=REBUILD)
@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
def test_containers_are_rebuilt_as_they_were(make: Callable[[], Any], rebuild: Callable[[Any], Any]) -> None:
    held = make()
    rebuilt = rebuild(held)
    same(rebuilt, held)
    assert rebuilt is not held
    if isinstance(held, ModelOutput):
        torch.testing.assert_close(rebuilt.to_tuple(), held.to_tuple(), rtol=0, atol=0)


@pytest.mark.parametrize("make", [SAMPLES["built-in"], SAMPLES["a required field"], SAMPLES["a decorated class"]])
def test_dataclasses_replace_and_what_fsdp_does(make: Callable[[], Any]) -> None:
    from torch.distributed.utils import _apply_to_tensors

    held = make()
    same(dataclasses.replace(held), held)
    name = list(held)[-1] if not isinstance(held, Decorated) else "logits"
    assert dataclasses.replace(held, **{name: 7})[name] == 7
    doubled = _apply_to_tensors(lambda x: x * 2, held)
    assert type(doubled) is type(held)
    torch.testing.assert_close(doubled[0], held[0] * 2)


def test_pytrees_may_put_anything_in_the_place_of_values() -> None:
    held = SAMPLES["built-in"]()
    flat, spec = pytree.tree_flatten(held)
    for leaves in ([None, None], [("a", 1), ("b", 2)], [{"logits": 1}, {}], [object(), None]):
        filled = pytree.tree_unflatten(leaves, spec)
        assert list(filled.values()) == leaves
        assert list(filled) == ["loss", "logits"]
    assert len(flat) == 2


def test_what_is_none_is_absent_and_order_is_that_of_the_fields() -> None:
    output = SequenceClassifierOutput(logits=torch.ones(2))
    output["target"] = 5
    output.loss = torch.tensor(2.0)
    assert list(output) == ["loss", "logits", "target"]
    assert output[0] is output.loss is output["loss"]
    assert (output.target, output[-1]) == (5, 5)
    output["loss"] = None
    assert (output.loss, list(output), len(output)) == (None, ["logits", "target"], 2)
    output.update(loss=1, hidden_states=None, target=None)
    assert (list(output), output["target"]) == (["loss", "logits", "target"], None)
    del output["loss"]
    output |= {"attentions": (), "loss": 3}
    assert list(output.items())[0::2] == [("loss", 3), ("attentions", ())]
    assert output.setdefault("hidden_states", 4) == output.setdefault("hidden_states", 5) == 4
    assert output.pop("logits") is not None
    assert output.logits is None
    assert {**output} == dict(output) == {"loss": 3, "hidden_states": 4, "attentions": (), "target": None}


def test_one_positional_mapping_is_content_and_a_keyword_is_a_value() -> None:
    assert SequenceClassifierOutput({}).to_tuple() == SequenceClassifierOutput().to_tuple() == ()
    assert SequenceClassifierOutput({"loss": None, "logits": 1}).to_tuple() == (1,)
    losses = {"loss": 1.0, "aux": 2.0}
    assert SequenceClassifierOutput(loss=losses).loss is losses
    assert SequenceClassifierOutput(losses, "logits").loss is losses
    maps = (torch.ones(1), torch.ones(1))
    assert SequenceClassifierOutput(maps).loss is maps
    assert Decorated({"logits": 1}).count is None  # what was rebuilt has what the other had
    assert Decorated(logits=1).count == 3  # type: ignore[arg-type]
    assert ModelOutput({"logits": 1}).logits == ModelOutput(logits=1)["logits"] == 1  # type: ignore[attr-defined,call-arg]


@pytest.mark.parametrize(
    ("values", "named", "says"),
    [
        ((), {"logit": 1}, "there is no 'logit'; its fields are loss, logits, .* Did you mean 'logits'"),
        ((1,), {"loss": 1}, "'loss' is given twice"),
        ((1, 2, 3, 4, 5), {}, "5 values were given, but its fields are loss, logits"),
    ],
)
def test_wrong_arguments_are_named(values: tuple[Any, ...], named: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        SequenceClassifierOutput(*values, **named)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(TypeError, match="Scored: 'scores' is missing"):
        Scored(extra=())  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match=r"has no 'logit'.* Did you mean 'logits'"):
        SequenceClassifierOutput(logits=torch.ones(1)).logit  # type: ignore[attr-defined] # noqa: B018


def test_data_parallel_gathers_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.parallel import _functions, gather

    monkeypatch.setattr(_functions.Gather, "apply", lambda device, dim, *parts: torch.stack(parts))
    gathered = gather([SAMPLES["built-in"](), SAMPLES["built-in"]()], "cpu")
    assert type(gathered) is SequenceClassifierOutput
    assert (gathered.loss.shape, gathered.logits.shape) == ((2,), (2, 2, 3))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("name", ["DistilBertForSequenceClassification", "DistilBertModel", "Wav2Vec2ForCTC"])
def test_accelerate_casts_and_offloads(name: str) -> None:
    import accelerate
    from accelerate.utils.operations import convert_outputs_to_fp32

    model, inputs = tiny(name)
    expected = model(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        half, cast = model(**inputs), convert_outputs_to_fp32(model.forward)(**inputs)
    assert type(cast) is type(expected)
    assert all(value.dtype is torch.float32 for value in cast.values())
    torch.testing.assert_close(dict(cast), {n: v.float() for n, v in half.items()}, rtol=0.1, atol=0.1)
    moved = accelerate.cpu_offload(copy.deepcopy(model), execution_device="cpu")(**inputs)
    same(moved, expected)


def test_accelerate_trains_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from maquette import Trainer, TrainingArguments

    model, inputs = tiny("DistilBertForSequenceClassification")
    model = copy.deepcopy(model).train()
    labels = torch.tensor([0, 2])
    try:
        wrapped = Accelerator(cpu=True, mixed_precision="bf16").prepare(model)
        output = wrapped(**inputs, labels=labels)
        assert output.loss.dtype is output["logits"].dtype is torch.float32
        output.loss.backward()
        assert all(p.grad is not None for p in model.parameters())
    finally:
        AcceleratorState._reset_state(True)
    rows = [{"input_ids": inputs["input_ids"][0], "labels": label} for label in labels]
    settings = TrainingArguments(
        str(tmp_path / "run"), bf16=True, max_steps=1, save_strategy="no", report_to=[], disable_tqdm=True
    )
    fresh, _ = tiny("DistilBertForSequenceClassification")
    done = Trainer(copy.deepcopy(fresh), settings, train_dataset=rows).train()
    assert 0 < done.training_loss < 10


def test_a_layout_moves_as_a_whole() -> None:
    from maquette.modeling.packing import lay_out

    layout = lay_out(torch.zeros(2, 4), torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]), packed=True)
    assert layout.to("cpu") is layout
    moved = layout.to("meta")
    assert [tensor.device.type for tensor in moved] == ["meta"] * 3 == ["meta"] * len(list(layout))
    assert (moved.shape, moved.lengths) == (layout.shape, layout.lengths)


def test_jax_sees_inside(run_fresh: Callable[..., str]) -> None:
    code = """
import maquette, jax, jax.numpy as jnp
from maquette import BatchEncoding, MaskedLMOutput
held = MaskedLMOutput(logits=jnp.ones(2), hidden_states=(jnp.zeros(1),))
double = jax.jit(lambda held: jax.tree.map(lambda x: 2 * x, held))(held)
assert type(double) is MaskedLMOutput and double.logits.tolist() == [2, 2] and double.loss is None
assert jax.grad(lambda held: held.logits.sum())(held).hidden_states[0].tolist() == [0]
assert jax.tree.map(lambda x: None, held) == MaskedLMOutput._rebuild(["logits", "hidden_states"], [None, (None,)])
batch = jax.device_put(BatchEncoding({"input_ids": jnp.ones((1, 2))}))
assert type(batch) is BatchEncoding and batch.input_ids.shape == (1, 2)
"""
    run_fresh(code)


def test_a_saved_program_loads_with_maquette_alone(run_fresh: Callable[..., str], tmp_path: Path) -> None:
    model, inputs = tiny("DistilBertForTokenClassification")
    path = tmp_path / "program.pt2"
    torch.export.save(torch.export.export(model, (), inputs), path)
    torch.save({**inputs, "expected": model(**inputs).logits}, tmp_path / "inputs.pt")
    code = """
import maquette, sys
assert "torch" not in sys.modules and "maquette.modeling.outputs" not in sys.modules
import torch
assert "maquette.modeling.torch" not in sys.modules
held = torch.load("inputs.pt")
expected = held.pop("expected")
output = torch.export.load("program.pt2").module()(**held)
assert type(output) is maquette.TokenClassifierOutput
torch.testing.assert_close(output.logits, expected)
"""
    run_fresh(code)
    run_fresh(
        code.replace("import maquette, sys\nassert", "import torch, maquette, sys\nassert 'x' not in sys.modules or")
    )
