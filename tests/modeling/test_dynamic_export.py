"""Programs of `torch.export` for any number of rows, and texts and sounds of any length: two classes of a family."""

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


class Call(nn.Module):
    """Calls a model with a dictionary: torch knows no symbolic sizes of what `forward` takes as `**options`."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model(**inputs)


def grow(name: str, x: Tensor, *, lengthens: bool) -> Tensor:
    rows = torch.cat([x, x])[: x.shape[0] + 1]
    return torch.cat([rows, rows], -1)[..., : x.shape[-1] + LONG[name]] if lengthens and name in LONG else rows


@pytest.mark.parametrize("case", CHOSEN.values(), ids=CHOSEN)
def test_exported_programs_take_other_sizes(case) -> None:
    torch.manual_seed(0)
    model = case.model_class(case.config()).eval().requires_grad_(False)
    inputs = {name: x for name, x in model.dummy_inputs.items() if isinstance(x, Tensor)}
    if "input_ids" in inputs:  # torch takes sizes that are alike for one and the same
        inputs |= {name: x[:, : inputs["input_ids"].shape[1] - 1] for name, x in inputs.items() if "decoder" in name}
    lengthens = "pixel_values" not in inputs or "input_ids" not in inputs  # tokens that stand for images are counted
    sizes = {
        name: {0: Dim.DYNAMIC} | ({x.ndim - 1: Dim.DYNAMIC} if lengthens and name in LONG else {})
        for name, x in inputs.items()
    }
    more = {name: grow(name, x, lengthens=lengthens) for name, x in inputs.items()}
    if case.card.model_type == "llava":  # as many images as the texts have places for
        more = {name: torch.cat([x, x]) for name, x in inputs.items()}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(Call(model), (inputs,), strict=False, dynamic_shapes=(sizes,)).module()
        found, expected = program(more), model(**more)
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
