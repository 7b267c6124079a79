"""Any number of rows, texts and sounds of any length: in programs of `torch.export`, and compiled without a break."""

import itertools
import warnings

import pytest
import torch
from rounding import bound
from torch import Tensor, nn
from torch.export import Dim

from maquette.testing import cases

# By how much more each grows.
LONG = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), 3) | {"input_values": 400}
LONG |= {"decoder_input_ids": 2, "decoder_attention_mask": 2}
FAMILIES = [list(some) for _, some in itertools.groupby(cases(), key=lambda case: case.card.package)]
CHOSEN = {str(case): case for family in FAMILIES for case in (family[0], family[-1])}
# What attends, counts or convolves in another way than the rest.
COMPILED = {"bart-BartModel", "bert-BertModel", "gemma2-Gemma2Model", "llama-LlamaModel", "llava-LlavaModel"}
COMPILED |= {"mixtral-MixtralModel", "modernbert-ModernBertModel", "t5-T5Model", "vit-ViTModel", "clip-CLIPModel"}
COMPILED |= {"wav2vec2-Wav2Vec2Model", "whisper-WhisperModel"}


class Call(nn.Module):
    """Calls a model with a dictionary: torch knows no symbolic sizes of what `forward` takes as `**options`."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model(**inputs)


def make_inputs(case, model) -> list[dict[str, Tensor]]:
    """Give a model's inputs, and some with more rows and longer ones."""
    inputs = {name: x for name, x in model.dummy_inputs.items() if isinstance(x, Tensor)}
    if "input_ids" in inputs:  # torch takes sizes that are alike for one and the same
        inputs |= {name: x[:, : inputs["input_ids"].shape[1] - 1] for name, x in inputs.items() if "decoder" in name}
    if case.card.model_type == "llava":  # as many images as the texts have places for
        return [{name: torch.cat([x] * times) for name, x in inputs.items()} for times in (1, 2, 3, 4)]
    return [{name: grow(name, x, more, inputs) for name, x in inputs.items()} for more in range(4)]


def lengthens(name: str, inputs: dict[str, Tensor]) -> bool:
    return name in LONG and not {"pixel_values", "input_ids"} <= {*inputs}  # texts with images have places for these


def grow(name: str, x: Tensor, more: int, inputs: dict[str, Tensor]) -> Tensor:
    rows = torch.cat([x] * (more + 1))[: x.shape[0] + more]
    if not lengthens(name, inputs):
        return rows
    return torch.cat([rows] * (more + 1), -1)[..., : x.shape[-1] + more * LONG[name]]


def assert_alike(found, expected) -> None:
    compared = 0
    for name, other in expected.items():
        for one, wanted in zip(*map(torch.utils._pytree.tree_leaves, (found.get(name), other)), strict=False):
            if not isinstance(wanted, Tensor):  # a cache, which a program does not give back
                continue
            compared += 1
            assert one.shape == wanted.shape
            if wanted.is_floating_point():
                assert (one - wanted).abs().max() <= bound([wanted])
            else:
                assert torch.equal(one, wanted)
    assert compared


@pytest.mark.parametrize("case", CHOSEN.values(), ids=CHOSEN)
def test_exported_programs_take_other_sizes(case) -> None:
    torch.manual_seed(0)
    model = case.model_class(case.config()).eval().requires_grad_(False)
    inputs, more = make_inputs(case, model)[:2]
    sizes = {
        name: {0: Dim.DYNAMIC} | ({x.ndim - 1: Dim.DYNAMIC} if lengthens(name, inputs) else {})
        for name, x in inputs.items()
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(Call(model), (inputs,), strict=False, dynamic_shapes=(sizes,)).module()
        assert_alike(program(more), model(**more))


@pytest.mark.parametrize("case", [case for case in CHOSEN.values() if str(case) in COMPILED], ids=str)
def test_compiled_models_are_whole_and_take_other_sizes(case) -> None:
    """One graph for a call, without a break; others for sizes that turn out to be free, but none for each size."""
    torch.manual_seed(0)
    model = case.model_class(case.config()).eval().requires_grad_(False)
    graphs: list[object] = []

    def count(graph, examples):
        graphs.append(graph)
        return graph.forward

    calls = make_inputs(case, model)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch._dynamo.reset()
        compiled = torch.compile(model, backend=count, fullgraph=True, dynamic=True)
        for inputs in calls:
            assert_alike(compiled(**inputs), model(**inputs))
    assert len(graphs) < len(calls)
