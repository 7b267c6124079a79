"""Products of few rows, divided over threads: the same numbers, and a layer that is as before and after."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from maquette import LlamaConfig, LlamaForCausalLM
from maquette.modeling import divided_products
from maquette.modeling.divided_products import DividedProducts


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(divided_products, "FEWEST_NUMBERS", 1)
    monkeypatch.setattr(divided_products, "NUMBERS_PER_ROW", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [8, 7, 1])
@pytest.mark.parametrize("shape", [(1, 1), (3,), (4, 2), (1, 70), (0, 3), ()])
def test_products_are_the_same(shape: tuple[int, ...], outputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, outputs, bias=bias, dtype=torch.float64)
    x = torch.randn(*shape, 6, dtype=torch.float64)
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    with DividedProducts(layer):
        found = layer(x)
        assert isinstance(layer, nn.Linear) and (type(layer) is nn.Linear) == (outputs < 2)  # nothing to divide
    assert type(layer) is nn.Linear and "_shares" not in vars(layer)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found.shape == expected.shape and found.is_contiguous()


def test_changed_weights_and_copies_are_read_anew() -> None:
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with DividedProducts(layer):
        layer(x)
        twin = copy.deepcopy(layer)
        with torch.no_grad():
            layer.weight.fill_(1.0)
            layer.bias.zero_()
            twin.weight.fill_(2.0)
            twin.bias.zero_()
        assert layer(x).tolist() == [[4.0] * 4] and twin(x).tolist() == [[8.0] * 4]
        layer.weight = nn.Parameter(torch.full((4, 4), 3.0))
        assert layer(x).tolist() == [[12.0] * 4]
        layer.weight.data = torch.full((4, 4), 0.5)
        assert layer(x).tolist() == [[2.0] * 4]


def test_what_is_entered_again_heeds_what_changed_in_between() -> None:
    """As streams do, which leave the model as it was while the caller has its turn."""
    layer, x = nn.Linear(4, 4, bias=False), torch.ones(1, 4)
    products = DividedProducts(layer)
    for value in (1.0, 2.0, 3.0):
        layer.weight = nn.Parameter(torch.full((4, 4), value))
        with torch.no_grad(), products:
            assert type(layer) is not nn.Linear and layer(x).tolist() == [[4 * value] * 4]
        assert type(layer) is nn.Linear and not {"_shares", "_share_count"} & set(vars(layer))
    with torch.no_grad():
        layer.weight.fill_(5.0)  # in its place
        with products:
            assert layer(x).tolist() == [[20.0] * 4]
    torch.set_num_threads(1)
    with products:
        assert type(layer) is nn.Linear


def test_other_layers_are_left_alone() -> None:
    class Own(nn.Linear):
        pass

    layers = nn.ModuleList([Own(4, 4), nn.Linear(4, 4, dtype=torch.bfloat16), nn.Embedding(4, 4)])
    with DividedProducts(layers):
        assert [type(layer) for layer in layers] == [Own, nn.Linear, nn.Embedding]
    layer = nn.Linear(4, 4)
    with DividedProducts(layer), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer(torch.ones(1, 3))
    torch.set_num_threads(1)
    with DividedProducts(layer):
        assert type(layer) is nn.Linear


def test_generate_divides_and_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=51, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval().double()
    seen: set[type] = set()
    model.lm_head.register_forward_hook(lambda layer, *_: seen.add(type(layer)))
    prompts = [[5, 6, 7], [8], [9, 10]]
    found = model.generate(prompts, max_new_tokens=8, do_sample=False)
    beams = model.generate(prompts, max_new_tokens=8, num_beams=3, do_sample=False)
    assert seen == {divided_products._DividedLinear}
    assert {type(layer) for layer in model.modules() if isinstance(layer, nn.Linear)} == {nn.Linear}
    with pytest.raises(ZeroDivisionError):
        model.generate(prompts, max_new_tokens=3, logits_processor=[lambda ids, scores: 1 // 0])
    assert type(model.lm_head) is nn.Linear
    torch.set_num_threads(1)
    seen.clear()
    assert torch.equal(found, model.generate(prompts, max_new_tokens=8, do_sample=False))
    assert torch.equal(beams, model.generate(prompts, max_new_tokens=8, num_beams=3, do_sample=False))
    assert seen == {nn.Linear}
