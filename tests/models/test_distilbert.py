"""DistilBERT: it computes what the peer computes, on either's weights, with padding and without."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rounding import STEPS_OF_GRADIENTS, assert_near
from safetensors.torch import load_file, save_file

import maquette
from maquette import AutoModelForSequenceClassification, DistilBertConfig, DistilBertModel
from maquette.errors import ConfigurationError
from maquette.modeling.packing import use_packing

ROWS, LENGTH = 6, 11
TINY = {
    "vocab_size": 61,
    "dim": 32,
    "n_heads": 4,
    "n_layers": 3,
    "hidden_dim": 48,
    "max_position_embeddings": 20,
    "initializer_range": 0.2,
}
CASES = {
    "base": ("DistilBertModel", {}),
    "masked": ("DistilBertForMaskedLM", {}),
    "token": ("DistilBertForTokenClassification", {"num_labels": 5}),
    "question": ("DistilBertForQuestionAnswering", {}),
    "choice": ("DistilBertForMultipleChoice", {}),
    "one class": ("DistilBertForSequenceClassification", {"num_labels": 3}),
    "many classes": ("DistilBertForSequenceClassification", {"num_labels": 3}),
    "a number": ("DistilBertForSequenceClassification", {"num_labels": 1}),
    "numbers": ("DistilBertForSequenceClassification", {"num_labels": 3, "problem_type": "regression"}),
}
MASKS = ("none", "right", "left", "holes")


def tiny(**fields):
    return DistilBertConfig(**{**TINY, **fields})


def model_of(name, **fields):
    torch.manual_seed(0)
    return getattr(maquette, name)(tiny(**fields)).eval()


def make_inputs() -> dict[str, torch.Tensor]:
    """Six texts of different lengths, and labels of every kind."""
    torch.manual_seed(7)
    lengths = torch.tensor([11, 4, 1, 7, 4, 9])
    right = torch.arange(LENGTH) < lengths[:, None]
    holes = torch.rand(ROWS, LENGTH) < 0.5
    holes[:, 5] = True
    holes[0, 0] = False
    masks = {"none": torch.ones(ROWS, LENGTH), "right": right, "left": right.flip(1), "holes": holes}
    return {
        "ids": torch.randint(1, TINY["vocab_size"], (ROWS, LENGTH)),
        **{f"mask.{name}": mask.long() for name, mask in masks.items()},
        "labels.base": torch.randn(ROWS, LENGTH, TINY["dim"]),
        "labels.masked": torch.randint(0, TINY["vocab_size"], (ROWS, LENGTH)),
        "labels.token": torch.randint(0, 5, (ROWS, LENGTH)),
        "labels.question": torch.randint(0, LENGTH, (2, ROWS)),
        "labels.choice": torch.tensor([2, 0]),
        "labels.one class": torch.tensor([0, 2, 1, 1, 0, 2]),
        "labels.many classes": torch.randint(0, 2, (ROWS, 3)).float(),
        "labels.a number": torch.randn(ROWS),
        "labels.numbers": torch.randn(ROWS, 3),
    }


# The peer --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exchange(tmp_path_factory, run_peer):
    """A folder through which both libraries went: our models, theirs, and what the peer computes with each."""
    folder = tmp_path_factory.mktemp("exchange")
    (folder / "results").mkdir()
    save_file(make_inputs(), folder / "inputs.safetensors")
    settings = {case: (name, {**TINY, **fields}) for case, (name, fields) in CASES.items()}
    (folder / "cases.json").write_text(json.dumps(settings), encoding="utf-8")
    for case, (name, fields) in CASES.items():
        model_of(name, **fields).save_pretrained(folder / "ours" / case)
    run_peer(Path(__file__).parent / "peer_distilbert.py", folder)
    return folder


def compute(model, case, mask, inputs, *, packed):
    """Give our outputs, loss and gradients, named as the peer's script names them."""
    ids, labels = inputs["ids"], inputs[f"labels.{case}"]
    with use_packing(packed):
        if case == "base":
            output = model(ids, mask)
            loss = (output.last_hidden_state * labels * mask[..., None]).mean()
        elif case == "question":
            real = [row.nonzero()[:, 0] for row in mask]
            ranks = [[places[rank % len(places)] for places, rank in zip(real, row, strict=True)] for row in labels]
            output = model(ids, mask, start_positions=torch.stack(ranks[0]), end_positions=torch.stack(ranks[1]))
            loss = output.loss
        else:
            shape = (2, ROWS // 2, LENGTH) if case == "choice" else (ROWS, LENGTH)
            output = model(ids.view(shape), mask.view(shape), labels=labels)
            loss = output.loss
    model.zero_grad()
    loss.backward()
    gradients = {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()}
    return {**{name: value for name, value in output.items() if name != "loss"}, "loss": loss, **gradients}


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_peer(exchange, case, whose):
    inputs = make_inputs()
    expected = load_file(exchange / "results" / f"{whose}-{case}.safetensors")
    model = getattr(maquette, CASES[case][0]).from_pretrained(exchange / whose / case)
    assert sorted(model.state_dict()) == json.loads(bytes(expected["keys"].tolist()))
    for name in MASKS:
        mask = inputs[f"mask.{name}"]
        for packed in (True, False):
            found = compute(model, case, mask, inputs, packed=packed)
            gradients = [value for key, value in expected.items() if key.startswith(f"{name}.grad.")]
            for key, value in found.items():
                where, options = f"{case}, {name}, packed={packed}: {key}", {}
                if key.startswith("grad."):
                    options = {"among": gradients, "steps": STEPS_OF_GRADIENTS, "least": 0.0}
                assert_near(*take_real(mask, value, expected[f"{name}.{key}"]), where, **options)
            assert {f"{name}.{key}" for key in found} == {key for key in expected if key.startswith(f"{name}.")}


def take_real(mask, *tensors):
    return [tensor[mask.bool()] if tensor.shape[:2] == mask.shape else tensor for tensor in tensors]


def test_states_and_attention_weights_equal_the_peers(exchange):
    inputs = make_inputs()
    model = DistilBertModel.from_pretrained(exchange / "theirs" / "base")
    expected = load_file(exchange / "results" / "states.safetensors")
    real = inputs["mask.right"].bool()
    output = model(inputs["ids"], inputs["mask.right"], output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 4 and len(output.attentions) == 3
    for number, states in enumerate(output.hidden_states):
        assert_near(states[real], expected[f"state.{number}"][real])
    for number, weights in enumerate(output.attentions):  # (rows, heads, queries, keys)
        ours, theirs = (w.transpose(1, 2)[real] for w in (weights, expected[f"weights.{number}"]))
        assert_near(ours, theirs)


def test_sinusoids_equal_the_peers(exchange):
    model = DistilBertModel(tiny(sinusoidal_pos_embds=True))
    expected = load_file(exchange / "results" / "sinusoids.safetensors")["table"]
    assert_near(model.get_position_embeddings().weight, expected)


# Configuration ---------------------------------------------------------------------------------------------------


def test_prints_what_the_guide_shows():
    shown = json.loads(
        repr(DistilBertConfig(activation="relu", attention_dropout=0.4)).removeprefix("DistilBertConfig ")
    )
    shown.pop("maquette_version")
    assert shown == {
        "activation": "relu",
        "attention_dropout": 0.4,
        "dim": 768,
        "dropout": 0.1,
        "hidden_dim": 3072,
        "initializer_range": 0.02,
        "max_position_embeddings": 512,
        "model_type": "distilbert",
        "n_heads": 12,
        "n_layers": 6,
        "pad_token_id": 0,
        "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": False,
        "vocab_size": 30522,
    }


def test_usual_names_work_too():
    config = DistilBertConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=1)
    assert (config.dim, config.n_heads, config.n_layers) == (24, 3, 1)
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (24, 3, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": 10, "n_heads": 3}, "dim=10 cannot be shared equally by n_heads=3"),
        ({"n_layers": 0}, "n_layers"),
        ({"dropout": 1.5}, "dropout"),
        ({"activation": "geul"}, "activation"),
        ({"attn_implementation": "flash"}, 'must be "sdpa" or "eager"'),
        ({"vocab_size": 5, "pad_token_id": 5}, "pad_token_id=5"),
        ({"sinusoidal_pos_embds": True, "dim": 9, "n_heads": 3}, "even dim"),
    ],
)
def test_what_cannot_be_built_is_an_error(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        DistilBertConfig(**fields)


# Padding ---------------------------------------------------------------------------------------------------------


def run_case(model, case, ids, mask, **options):
    """Run a model on (rows, length) ids; a row is a choice for multiple choice."""
    shape = (1, *ids.shape) if case == "choice" else ids.shape
    options = {name: x.view(1, *x.shape) if case == "choice" else x for name, x in options.items()}
    return model(ids.view(shape), None if mask is None else mask.view(shape), **options)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("mask_name", ["right", "left", "holes"])
@pytest.mark.parametrize("case", CASES)
def test_a_text_gets_what_it_gets_alone(case, mask_name, packed):
    inputs = make_inputs()
    ids, mask = inputs["ids"], inputs[f"mask.{mask_name}"].bool()
    name, fields = CASES[case]
    model = model_of(name, **fields)
    with torch.no_grad(), use_packing(packed):
        together = run_case(model, case, ids, mask)
        for row, real in enumerate(mask):
            places = real.nonzero()[None, :, 0]
            alone = run_case(model, case, ids[row][real][None], None, position_ids=places)
            for key, value in alone.items():
                found = together[key][:, row] if case == "choice" else together[key][row]
                found = found[real] if found.shape[:1] == real.shape else found
                assert_near(found, value[0] if case != "choice" else value[:, 0])


@pytest.mark.parametrize("case", CASES)
def test_packed_equals_padded_with_rows_of_every_kind(case):
    torch.manual_seed(3)
    ids = torch.randint(1, 61, (6, 8))
    name, fields = CASES[case]
    model = model_of(name, **fields).double()
    rows = [[1] * 8, [0] * 8, [0] * 7 + [1], [0, 1, 0, 0, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0], [0] * 8]
    for mask in (torch.tensor(rows), torch.zeros(6, 8), torch.tensor(rows[::-1]), (torch.rand(6, 8) < 0.3).int()):
        found = {}
        for packed in (True, False):
            model.zero_grad()
            with use_packing(packed):
                output = run_case(model, case, ids, mask, **{"output_hidden_states": True} if case != "choice" else {})
            sum(x.clamp(-9, 9).sum() for x in flatten(output)).backward()
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
            found[packed] = [*flatten(output), *gradients]
        for one, other in zip(found[True], found[False], strict=True):
            assert one.isfinite().all()
            assert_near(one, other, steps=1e6)


def flatten(output):
    return [x for value in output.values() for x in (value if isinstance(value, tuple) else (value,))]


def test_padded_places_are_zeros_but_never_an_answer():
    ids, mask = make_inputs()["ids"], make_inputs()["mask.holes"]
    padding = mask == 0
    for packed in (True, False):
        with torch.no_grad(), use_packing(packed):
            assert not model_of("DistilBertModel")(ids, mask).last_hidden_state[padding].any()
            assert not model_of("DistilBertForMaskedLM")(ids, mask).logits[padding].any()
            answer = model_of("DistilBertForQuestionAnswering")(ids, mask)
        for logits in (answer.start_logits, answer.end_logits):
            assert (logits[padding] == torch.finfo(torch.float32).min).all()
            assert mask.gather(1, logits.argmax(1)[:, None]).all()
            assert not logits.softmax(1)[padding].any()


# Losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_labels_at_padding_do_not_count(packed):
    inputs = make_inputs()
    ids, mask, labels = inputs["ids"], inputs["mask.holes"], inputs["labels.token"]
    model = model_of("DistilBertForTokenClassification", num_labels=5)
    with torch.no_grad(), use_packing(packed):
        output = model(ids, mask, labels=labels)
        again = model(ids, mask, labels=labels.where(mask == 1, -100))
    real = mask.bool()
    expected = torch.nn.functional.cross_entropy(output.logits[real], labels[real])
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(again.loss, expected)


def test_answers_outside_the_text_do_not_count():
    ids, mask = torch.randint(1, 61, (4, 5)), torch.tensor([[1, 1, 1, 0, 0]] * 4)
    model = model_of("DistilBertForQuestionAnswering")
    with torch.no_grad():
        output = model(ids, mask, start_positions=torch.tensor([1, 4, 9, -1]), end_positions=torch.tensor([[2]] * 4))
    first = torch.nn.functional.cross_entropy(output.start_logits[:1, :3], torch.tensor([1]))
    last = torch.nn.functional.cross_entropy(output.end_logits[:, :3], torch.tensor([2] * 4))
    torch.testing.assert_close(output.loss, (first + last) / 2)
    with pytest.raises(ValueError, match="needs both"):
        model(ids, mask, start_positions=torch.tensor([1, 1, 1, 1]))


def test_labels_that_do_not_fit_are_an_error_that_says_what_would():
    ids = torch.ones(2, 3, dtype=torch.long)
    model = model_of("DistilBertForSequenceClassification", num_labels=3)
    with pytest.raises(ValueError, match=r"\(2, 3\).*single_label_classification.*give 2 of them.*problem_type"):
        model(ids, labels=torch.ones(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"labels has the shape \(2, 2\), but the batch .* \(2, 3\)"):
        model_of("DistilBertForTokenClassification")(ids, labels=torch.ones(2, 2, dtype=torch.long))
    output = model_of("DistilBertForSequenceClassification", num_labels=1)(ids, labels=torch.tensor([1, 2]))
    torch.testing.assert_close(output.loss, ((output.logits[:, 0] - torch.tensor([1.0, 2.0])) ** 2).mean())


# What forward gives ----------------------------------------------------------------------------------------------


def test_outputs_come_as_asked():
    inputs = make_inputs()
    ids, mask = inputs["ids"], inputs["mask.right"]
    model = model_of("DistilBertModel")
    plain = model(ids, mask)
    assert list(plain) == ["last_hidden_state"]
    rich = model(ids, mask, output_hidden_states=True, output_attentions=True)
    assert list(rich) == ["last_hidden_state", "hidden_states", "attentions"]
    assert_near(rich.last_hidden_state, plain.last_hidden_state)
    assert torch.equal(rich.hidden_states[-1], rich.last_hidden_state)
    values = model(ids, mask, output_hidden_states=True, return_dict=False)
    assert isinstance(values, tuple) and len(values) == 2 and isinstance(values[1], tuple)
    by_config = model_of("DistilBertModel", output_attentions=True, return_dict=False)(ids, mask)
    assert [type(value) for value in by_config] == [torch.Tensor, tuple]
    first = model(ids, mask, only_first=True).last_hidden_state
    assert_near(first, plain.last_hidden_state[:, :1])


def test_eager_and_fused_attention_agree():
    inputs = make_inputs()
    for mask in (None, inputs["mask.holes"]):
        expected = model_of("DistilBertModel", attn_implementation="eager")(inputs["ids"], mask)
        found = model_of("DistilBertModel", attn_implementation="sdpa")(inputs["ids"], mask)
        assert_near(found.last_hidden_state, expected.last_hidden_state)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_vectors_in_the_place_of_ids(packed):
    inputs = make_inputs()
    ids, mask = inputs["ids"], inputs["mask.holes"]
    model = model_of("DistilBertForSequenceClassification")
    vectors = model.get_input_embeddings()(ids).detach().requires_grad_()
    with use_packing(packed):
        found = model(inputs_embeds=vectors, attention_mask=mask).logits
        torch.testing.assert_close(found, model(ids, mask).logits)
    found.sum().backward()
    assert vectors.grad[mask == 1].any(-1).all() and not vectors.grad[mask == 0].any()


def test_inputs_that_do_not_fit_are_errors():
    model, ids = model_of("DistilBertModel"), torch.ones(2, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="not both"):
        model(ids, inputs_embeds=torch.zeros(2, 4, 32))
    with pytest.raises(ValueError, match="not both"):
        model()
    with pytest.raises(ValueError, match=r"\(batch, length\).*\(4,\)"):
        model(ids[0])
    with pytest.raises(ValueError, match="21 tokens, 20 positions"):
        model(torch.ones(1, 21, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        model(ids, torch.ones(2, 3))
    with pytest.raises(TypeError, match="token_type_ids"):
        model_of("DistilBertForTokenClassification")(ids, token_type_ids=ids)


# Weights ---------------------------------------------------------------------------------------------------------


def test_fresh_weights_are_as_in_the_paper():
    torch.manual_seed(0)
    model = maquette.DistilBertForMaskedLM(DistilBertConfig(n_layers=1, vocab_size=2000, pad_token_id=3))
    for name, weight in model.named_parameters():
        if "norm" in name.lower():
            assert (weight == float(name.endswith("weight"))).all(), name
        elif name.endswith("bias"):
            assert not weight.any(), name
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.02) and abs(weight.mean().item()) < 1e-3, name
    words = model.get_input_embeddings()
    assert not words.weight[3].any() and words.weight[2].any()
    assert model.vocab_projector.weight is words.weight


def test_positions_can_be_resized():
    model = model_of("DistilBertForMaskedLM")
    old = model.get_position_embeddings().weight.detach().clone()
    model.resize_position_embeddings(30)
    new = model.get_position_embeddings().weight
    assert torch.equal(new[:20], old) and new[20:].std() < 1 and new[20:].any(1).all()
    assert model.config.max_position_embeddings == model.distilbert.config.max_position_embeddings == 30
    assert model(torch.ones(1, 30, dtype=torch.long)).logits.shape == (1, 30, 61)
    model.resize_position_embeddings(7)
    assert torch.equal(model.get_position_embeddings().weight, old[:7])


def test_sinusoids_are_fixed(tmp_path):
    def expected(count):
        angles = np.arange(count)[:, None] / 10000 ** (np.arange(0, 32, 2) / 32)
        return torch.tensor(np.stack([np.sin(angles), np.cos(angles)], -1).reshape(count, 32), dtype=torch.float32)

    model = model_of("DistilBertModel", sinusoidal_pos_embds=True)
    model.save_pretrained(tmp_path)
    again = DistilBertModel.from_pretrained(tmp_path)
    for each in (model, again):
        weight = each.get_position_embeddings().weight
        assert_near(weight, expected(20))
        assert not weight.requires_grad
    again.resize_position_embeddings(33)
    assert_near(again.get_position_embeddings().weight, expected(33))


def test_pruned_heads_are_as_if_nobody_listened_to_them(tmp_path):
    inputs = make_inputs()
    ids, mask = inputs["ids"], inputs["mask.holes"]
    model, pruned = model_of("DistilBertForSequenceClassification"), model_of("DistilBertForSequenceClassification")
    gone = {0: [1], 2: [0, 3]}
    for layer, heads in gone.items():
        for head in heads:
            out = model.distilbert.transformer.layer[layer].attention.out_lin
            torch.nn.init.zeros_(out.weight[:, head * 8 : head * 8 + 8])
    pruned.prune_heads({0: [1], 2: [0]})
    pruned.prune_heads({2: [0, 3]})
    pruned.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.distilbert.transformer.layer[2].attention.q_lin.weight.shape == (16, 32)
    with torch.no_grad():
        expected = model(ids, mask).logits
        assert_near(pruned(ids, mask).logits, expected)
        assert torch.equal(again(ids, mask).logits, pruned(ids, mask).logits)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
def test_a_layer_may_lose_all_its_heads():
    model = model_of("DistilBertModel")
    model.prune_heads({1: [0, 1, 2, 3]})
    for packed in (True, False):
        with use_packing(packed):
            assert model(make_inputs()["ids"], make_inputs()["mask.holes"]).last_hidden_state.isfinite().all()


def test_one_checkpoint_serves_every_head(tmp_path):
    model_of("DistilBertForMaskedLM").save_pretrained(tmp_path)
    for name in {name for name, _ in CASES.values()}:
        loaded = getattr(maquette, name).from_pretrained(tmp_path)
        base = loaded.base_model.state_dict()
        for key, value in model_of("DistilBertForMaskedLM").distilbert.state_dict().items():
            assert torch.equal(base[key], value), (name, key)


# Training --------------------------------------------------------------------------------------------------------


def test_recomputing_activations_changes_no_gradient():
    inputs = make_inputs()
    ids, mask, labels = inputs["ids"], inputs["mask.holes"], inputs["labels.one class"]
    settings = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "num_labels": 3}
    found = []
    for recompute in (False, True):
        model = model_of("DistilBertForSequenceClassification", **settings).train()
        if recompute:
            model.gradient_checkpointing_enable()
        with use_packing(True):
            model(ids, mask, labels=labels).loss.backward()
        found.append([p.grad for p in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("dropout", "DistilBertModel"),
        ("attention_dropout", "DistilBertModel"),
        ("seq_classif_dropout", "DistilBertForSequenceClassification"),
        ("seq_classif_dropout", "DistilBertForMultipleChoice"),
        ("qa_dropout", "DistilBertForQuestionAnswering"),
        ("dropout", "DistilBertForTokenClassification"),
    ],
)
def test_every_dropout_works_while_training_and_only_then(field, name):
    none = dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout", "qa_dropout"), 0.0)
    ids = torch.randint(1, 61, (2, 2, 6) if "Choice" in name else (2, 6))
    mask = torch.ones_like(ids)
    mask[..., 4:] = 0
    for rate, training, same in ((0.5, True, False), (0.5, False, True), (0.0, True, True)):
        model = model_of(name, **{**none, field: rate}).train(training)
        for packed in (True, False):
            with torch.no_grad(), use_packing(packed):
                assert torch.equal(model(ids, mask)[0], model(ids, mask)[0]) is same, (rate, training, packed)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_learns_with_dropout(packed):
    """Whether a text has an even token first, wherever it begins; half of every batch is padding."""
    torch.manual_seed(0)
    model = model_of("DistilBertForSequenceClassification", n_layers=2, seq_classif_dropout=0.1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    with use_packing(packed):
        for _ in range(120):
            ids, starts = torch.randint(1, 61, (32, 12)), torch.randint(0, 6, (32,))
            mask = (torch.arange(12) >= starts[:, None]) & (torch.arange(12) < starts[:, None] + 6)
            labels = ids.gather(1, starts[:, None])[:, 0] % 2
            loss = model(ids, mask, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert all(np.isfinite(losses)) and np.mean(losses[-10:]) < 0.4 < 0.6 < np.mean(losses[:5])


def test_automatic_mixed_precision_packs_too():
    inputs = make_inputs()
    model = model_of("DistilBertForTokenClassification")
    found = []
    for packed in (True, False):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), use_packing(packed):
            found.append(model(inputs["ids"], inputs["mask.holes"]).logits.float())
    torch.testing.assert_close(*found, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES.values()}))
def test_keeps_the_promises_of_a_model_with_masks(name):
    from maquette.testing import check_model

    torch.manual_seed(0)
    ids, mask = torch.randint(1, 61, (4, 10)), (torch.rand(4, 10) < 0.5).long()
    mask[:, 6] = 1
    shape = (2, 2, 10) if name == "DistilBertForMultipleChoice" else (4, 10)
    inputs = {"input_ids": ids.view(shape), "attention_mask": mask.view(shape)}
    checks = ("batch", "compile", "export", "half_precision", "gradients")
    check_model(getattr(maquette, name), tiny(), inputs=inputs, only=checks)
