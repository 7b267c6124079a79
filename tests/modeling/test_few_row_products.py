"""Products of few rows, divided over threads: the same numbers, and a layer that is as before and after."""

import copy
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from rounding import bound
from torch import nn

from maquette import LlamaConfig, LlamaForCausalLM
from maquette.modeling import few_row_products
from maquette.modeling.few_row_products import FewRowProducts
from maquette.modeling.layers.linear import Conv1D


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(few_row_products, "FEWEST_NUMBERS", 1)
    monkeypatch.setattr(few_row_products, "NUMBERS_PER_ROW", 1)
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
    with FewRowProducts(layer):
        found = layer(x)
        assert isinstance(layer, nn.Linear) and (type(layer) is nn.Linear) == (outputs < 2)  # nothing to divide
    assert type(layer) is nn.Linear and "_forms" not in vars(layer)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found.shape == expected.shape and found.is_contiguous()


def test_changed_weights_and_copies_are_read_anew() -> None:
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with FewRowProducts(layer):
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
    products = FewRowProducts(layer)
    for value in (1.0, 2.0, 3.0):
        layer.weight = nn.Parameter(torch.full((4, 4), value))
        with torch.no_grad(), products:
            assert type(layer) is not nn.Linear and layer(x).tolist() == [[4 * value] * 4]
        assert type(layer) is nn.Linear and "_forms" not in vars(layer)
    with torch.no_grad():
        layer.weight.fill_(5.0)  # in its place
        with products:
            assert layer(x).tolist() == [[20.0] * 4]


def test_other_layers_are_left_alone() -> None:
    class Own(nn.Linear):
        pass

    layers = nn.ModuleList([Own(4, 4), nn.Linear(4, 4, dtype=torch.complex64), nn.Embedding(4, 4)])
    with FewRowProducts(layers):
        assert [type(layer) for layer in layers] == [Own, nn.Linear, nn.Embedding]
    layer = nn.Linear(4, 4)
    with FewRowProducts(layer), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer(torch.ones(1, 3))
    torch.set_num_threads(1)
    layer = nn.Linear(4, 4, dtype=torch.float64)
    with FewRowProducts(layer):
        assert type(layer) is nn.Linear


@pytest.fixture
def _copies_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    if not few_row_products._can_copy(torch.float32):
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(few_row_products, "STEPS", 0)
    monkeypatch.setattr(few_row_products, "FEWEST_FOR_ONE", 1)


@pytest.mark.usefixtures("_copies_at_once")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_products_with_copied_weights_are_the_same(kind: type, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = kind(48, 80) if kind is nn.Linear else kind(80, 48)
    layer.to(dtype)
    exact = (layer.weight.double() if kind is nn.Linear else layer.weight.double().t(), layer.bias.double())
    with torch.no_grad(), FewRowProducts(layer):
        for rows in (1, 2, 5, 64, 100):
            x = torch.randn(rows, 48).to(dtype)
            found, expected = layer(x.view(rows, 1, 48)), nn.functional.linear(x.double(), *exact)
            assert found.shape == (rows, 1, 80) and found.dtype == dtype
            steps = 4 if dtype == torch.bfloat16 else 50
            apart = steps * torch.finfo(dtype).eps * max(1.0, float(expected.abs().max()))
            assert (found[:, 0].double() - expected).abs().max() <= apart
        copied = few_row_products._can_copy(dtype)
        assert (vars(layer)["_forms"].copy is not None) == copied


def edit_in_place(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight[2, 1] += 1


def edit_unseen(layer: nn.Linear) -> None:
    layer.weight.data[2, 1] += 1  # torch's count of versions does not tell


def swap_rows(layer: nn.Linear) -> None:
    layer.weight.data[[0, 1]] = layer.weight.data[[1, 0]]


def replace(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(torch.randn_like(layer.weight))


@pytest.mark.usefixtures("_copies_at_once")
@pytest.mark.parametrize("edit", [edit_in_place, edit_unseen, swap_rows, replace])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_of_an_earlier_call_serve_only_the_same_weights(edit: Any, dtype: torch.dtype) -> None:
    if not few_row_products._can_copy(dtype):
        pytest.skip(f"oneDNN has no kernels for {dtype} here")
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 4, dtype=dtype), torch.randn(2, 4, dtype=dtype)
    with torch.no_grad(), FewRowProducts(layer):
        before = layer(x)
    kept = few_row_products._copies[layer][""].copy
    with torch.no_grad(), FewRowProducts(layer):
        assert torch.equal(layer(x), before)
    assert kept is not None and few_row_products._copies[layer][""].copy is kept  # used again
    edit(layer)
    with torch.no_grad(), FewRowProducts(layer):
        found = layer(x)
    with torch.no_grad():
        assert not torch.equal(found, before)
        torch.testing.assert_close(found, layer(x))


def make_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=51, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config).eval()


def test_generate_divides_and_leaves_the_model_as_it_was() -> None:
    model = make_model().double()
    seen: set[type] = set()
    model.lm_head.register_forward_hook(lambda layer, *_: seen.add(type(layer)))
    prompts = [[5, 6, 7], [8], [9, 10]]
    found = model.generate(prompts, max_new_tokens=8, do_sample=False)
    beams = model.generate(prompts, max_new_tokens=8, num_beams=3, do_sample=False)
    assert seen == {few_row_products._QuickLinear}
    assert {type(layer) for layer in model.modules() if isinstance(layer, nn.Linear)} == {nn.Linear}
    with pytest.raises(ZeroDivisionError):
        model.generate(prompts, max_new_tokens=3, logits_processor=[lambda ids, scores: 1 // 0])
    assert type(model.lm_head) is nn.Linear
    torch.set_num_threads(1)
    seen.clear()
    assert torch.equal(found, model.generate(prompts, max_new_tokens=8, do_sample=False))
    assert torch.equal(beams, model.generate(prompts, max_new_tokens=8, num_beams=3, do_sample=False))
    assert seen == {nn.Linear}


@pytest.mark.usefixtures("_copies_at_once")
def test_generate_keeps_copies_until_the_model_trains() -> None:
    model, prompts = make_model(), [[5, 6, 7], [8], [9, 10]]
    plain = model.generate(prompts, max_new_tokens=8, do_sample=False, low_memory=True)
    assert not few_row_products._copies.get(model)
    found = model.generate(prompts, max_new_tokens=8, do_sample=False)
    names = {name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    assert {*few_row_products._copies[model]} == names
    assert torch.equal(found, plain)
    assert torch.equal(model.generate(prompts, max_new_tokens=8, do_sample=False), plain)
    model.lm_head.weight.data.neg_()  # nothing tells but the numbers
    changed = model.generate(prompts, max_new_tokens=8, do_sample=False)
    assert torch.equal(changed, model.generate(prompts, max_new_tokens=8, do_sample=False, low_memory=True))
    assert not torch.equal(changed, plain)
    model.train()
    assert model not in few_row_products._copies
    reference = weakref.ref(model)
    model.eval().generate(prompts, max_new_tokens=8)
    del model
    gc.collect()
    assert reference() is None


@pytest.mark.usefixtures("_copies_at_once")
def test_a_row_with_copied_weights_is_the_same_alone() -> None:
    """Where oneDNN's sums follow the same order for any number of rows, as they do for short ones."""
    torch.manual_seed(0)
    layer, x = nn.Linear(192, 512, bias=False), torch.randn(64, 192)
    with torch.no_grad(), FewRowProducts(layer):
        whole = layer(x)
        alone = torch.cat([layer(row[None]) for row in x])
    assert (whole - alone).abs().max() <= bound([whole], steps=20)


@pytest.mark.usefixtures("_copies_at_once")
def test_models_made_in_inference_mode_generate() -> None:
    with torch.inference_mode():
        model = make_model()
        found = model.generate([[5, 6, 7], [8]], max_new_tokens=6)
        assert few_row_products._copies[model]
    assert found.tolist() == make_model().generate([[5, 6, 7], [8]], max_new_tokens=6).tolist()


@pytest.mark.usefixtures("_copies_at_once")
def test_a_forward_that_enters_autocast_gets_what_it_asks_for() -> None:
    layer, x = nn.Linear(4, 4), torch.ones(2, 4)
    with torch.no_grad(), FewRowProducts(layer):
        assert layer(x).dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
