"""What every Flax model can do: being bound and unbound, training, loading with differences, types, vocabularies."""

import copy
import json
import logging
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.training.train_state import TrainState
from safetensors import safe_open
from safetensors.numpy import load_file

from maquette import (
    CheckpointError,
    ConfigurationError,
    DistilBertConfig,
    FlaxAutoModelForSequenceClassification,
    FlaxDistilBertForMaskedLM,
    FlaxDistilBertForSequenceClassification,
    FlaxDistilBertModel,
    FlaxPreTrainedModel,
    PretrainedConfig,
    SaveError,
)
from maquette.checkpoint.axes import flatten, unflatten

TINY = {"vocab_size": 40, "dim": 16, "n_heads": 4, "n_layers": 2, "hidden_dim": 24, "max_position_embeddings": 16}
RNG = np.random.default_rng(0)
INPUTS = {"input_ids": RNG.integers(1, 40, (32, 7)), "attention_mask": np.ones((32, 7), int)}
LABELS = INPUTS["input_ids"][:, 0] % 3


def tiny(**changes) -> DistilBertConfig:
    return DistilBertConfig(**{**TINY, "num_labels": 3, **changes})


def test_fields_given_with_a_configuration_change_a_copy_of_it(tmp_path: Path) -> None:
    config = tiny()
    FlaxDistilBertModel.from_config(config).save_pretrained(tmp_path)
    for model in (
        FlaxDistilBertModel.from_pretrained(tmp_path, config=config, dropout=0.3, n_layers=1),
        FlaxDistilBertModel.from_config(config, dropout=0.3, n_layers=1),
    ):
        assert (model.config.dropout, model.config.n_layers) == (0.3, 1)
        assert (config.dropout, config.n_layers) == (0.1, 2)
    with pytest.raises(ConfigurationError, match="dim"):
        FlaxDistilBertModel.from_config(config, dim=15)


def test_a_model_is_a_linen_module_bound_to_its_variables(tmp_path: Path) -> None:
    model = FlaxDistilBertModel.from_config(tiny(), seed=3)
    assert isinstance(model, nn.Module)
    module, variables = model.unbind()
    assert set(variables) == {"params"} and module == FlaxDistilBertModel(model.config)
    expected = model(**INPUTS).last_hidden_state
    found = jax.jit(lambda variables: module.apply(variables, **INPUTS))(variables)
    np.testing.assert_allclose(found.last_hidden_state, expected, atol=1e-5)
    same, other = (FlaxDistilBertModel.from_config(tiny(), seed=seed) for seed in (3, 4))
    np.testing.assert_array_equal(same(**INPUTS)[0], expected)
    assert np.abs(other(**INPUTS)[0] - expected).max() > 1e-3
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(FlaxDistilBertModel.from_pretrained(tmp_path)(**INPUTS)[0], expected)


def test_training_under_jit_with_optax(tmp_path: Path) -> None:
    """A `TrainState` whose `apply_fn` is the module's: it has to have a hash."""
    module, variables = FlaxDistilBertForSequenceClassification.from_config(tiny(initializer_range=0.3)).unbind()
    state = TrainState.create(apply_fn=module.apply, params=variables["params"], tx=optax.adam(3e-3))

    @jax.jit
    def step(state, key):
        def loss_of(params):
            logits = state.apply_fn({"params": params}, **INPUTS, train=True, rngs={"dropout": key}).logits
            return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

        loss, gradients = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=gradients), loss

    losses = []
    for number in range(40):
        state, loss = step(state, jax.random.key(number))
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    trained = module.bind({"params": state.params})
    expected = trained(**INPUTS).logits
    trained.save_pretrained(tmp_path / "bound")
    module.bind(variables).save_pretrained(tmp_path / "params", params=state.params)
    module.save_pretrained(tmp_path / "unbound", params={"params": state.params})
    for folder in ("bound", "params", "unbound"):
        again = FlaxAutoModelForSequenceClassification.from_pretrained(tmp_path / folder)
        np.testing.assert_array_equal(again(**INPUTS).logits, expected)


def test_dropout_needs_its_random_numbers() -> None:
    module, variables = FlaxDistilBertModel.from_config(tiny(dropout=0.5)).unbind()
    runs = [module.apply(variables, **INPUTS, train=True, rngs={"dropout": jax.random.key(n)})[0] for n in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-3


def test_a_head_is_new_and_more_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = FlaxDistilBertModel.from_config(tiny())
    base.save_pretrained(tmp_path)
    head = FlaxDistilBertForSequenceClassification
    with caplog.at_level(logging.WARNING):
        model, info = head.from_pretrained(tmp_path, output_loading_info=True)
    new = {f"{layer}.{leaf}" for layer in ("pre_classifier", "classifier") for leaf in ("weight", "bias")}
    assert set(info["missing_keys"]) == new
    assert "classifier.weight  (3, 16)" in caplog.text
    weights, old = model.state_arrays(), base.state_arrays()
    for name, array in old.items():
        np.testing.assert_array_equal(weights[f"distilbert.{name}"], array)
    kernels = [m.state_arrays()["classifier.weight"] for m in (model, head.from_pretrained(tmp_path, seed=5))]
    assert 0 < np.std(kernels[0]) < 0.1 and not np.array_equal(*kernels)
    with pytest.raises(
        CheckpointError, match=r"embeddings\.word_embeddings\.weight: \(40, 16\) in the file, \(41, 16\)"
    ):
        FlaxDistilBertModel.from_pretrained(tmp_path, vocab_size=41)
    with pytest.raises(CheckpointError, match=r"transformer\.layer\.2\.attention\.q_lin\.weight: not in the file"):
        FlaxDistilBertModel.from_pretrained(tmp_path, n_layers=3)


def test_bfloat16_is_kept_through_saves(tmp_path: Path) -> None:
    model = FlaxDistilBertModel.from_config(tiny())
    model.save_pretrained(tmp_path / "full")
    half = FlaxDistilBertModel.from_pretrained(tmp_path / "full", dtype="bfloat16")
    states = half(**INPUTS).last_hidden_state
    assert half.dtype == states.dtype == jnp.bfloat16
    assert 0 < np.abs(np.asarray(states, "float32") - model(**INPUTS)[0]).max() < 0.1
    half.save_pretrained(tmp_path / "half")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    with safe_open(tmp_path / "half" / "model.safetensors", framework="np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    FlaxDistilBertModel.from_pretrained(tmp_path / "half").save_pretrained(tmp_path / "again")
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("half", "again"))
    assert one == other


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [44, 36])
def test_resized_vocabularies_keep_their_rows(tied: bool, size: int, tmp_path: Path) -> None:
    model = FlaxDistilBertForMaskedLM.from_config(tiny(tie_word_embeddings=tied))
    inputs = {name: value % 36 for name, value in INPUTS.items()}
    before = model(**inputs).logits
    resized = model.resize_token_embeddings(size)
    after, rows = resized(**inputs).logits, min(40, size)
    assert after.shape == (32, 7, size) and (model.config.vocab_size, resized.config.vocab_size) == (40, size)
    np.testing.assert_allclose(after[..., :rows], before[..., :rows], atol=1e-6)
    np.testing.assert_array_equal(model(**inputs).logits, before)
    resized.save_pretrained(tmp_path)
    assert ("vocab_projector.weight" in load_file(tmp_path / "model.safetensors")) is not tied
    np.testing.assert_array_equal(FlaxDistilBertForMaskedLM.from_pretrained(tmp_path)(**inputs).logits, after)


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"made from a configuration, not from a str. .*from_pretrained"):
        FlaxDistilBertModel("distilbert-base-uncased")
    with pytest.raises(ValueError, match=r"has no variables: bind it to some, module\.bind\(variables\)"):
        FlaxDistilBertModel(tiny()).save_pretrained(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists() or not list((tmp_path / "nothing").iterdir())
    model = FlaxDistilBertModel.from_config(tiny())
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(attention_mask=np.ones((1, 3)))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lies where its framework puts it"):
        FlaxDistilBertModel.from_pretrained(tmp_path, device_map="cuda")
    with pytest.raises(TypeError, match=r"no option 'strickt'\. Did you mean 'strict'"):
        FlaxDistilBertModel.from_pretrained(tmp_path, strickt=True)


def test_masks_with_holes_and_rows_of_padding(from_torch: Path) -> None:
    model = FlaxDistilBertModel.from_pretrained(from_torch / "DistilBertModel")
    mask = np.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    ids = np.arange(15).reshape(3, 5)
    one, other = (np.asarray(model(np.where(mask, ids, filler), mask)[0]) for filler in (0, 7))
    np.testing.assert_array_equal(one, other)
    assert not one[mask == 0].any() and one[mask == 1].any()


class OddConfig(PretrainedConfig):
    model_type = "odd"
    width: int = 6


class Odd(nn.Module):
    """Numbered names that are no list, a list, statistics, a raw weight."""

    width: int

    def setup(self):
        self.linear_1, self.linear_2 = nn.Dense(self.width), nn.Dense(self.width)
        self.convs = [nn.Conv(self.width, (3,), feature_group_count=2) for _ in range(2)]
        self.norm = nn.BatchNorm()
        self.scale_by = self.param("scale_by", nn.initializers.ones, (1, self.width))

    def __call__(self, x, train):
        x = self.linear_2(self.linear_1(x))
        for conv in self.convs:
            x = conv(x)
        return self.norm(x, use_running_average=not train) * self.scale_by


class FlaxOdd(FlaxPreTrainedModel):
    config_class = OddConfig

    def setup(self):
        self.blocks = [Odd(self.config.width) for _ in range(11)]

    @property
    def dummy_inputs(self):
        return {"x": np.zeros((2, 5, self.config.width), "float32")}

    def __call__(self, x, train=False):
        for block in self.blocks:
            x = block(x, train)
        return x


def test_names_are_paths_of_attributes(tmp_path: Path) -> None:
    model = FlaxOdd.from_config(OddConfig())
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    layers = ("linear_1", "linear_2", "convs.0", "convs.1")
    inside = {f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias")} | {"scale_by"}
    inside |= {f"norm.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert set(saved) == {f"blocks.{number}.{name}" for number in range(11) for name in inside}
    assert saved["blocks.10.convs.0.weight"].shape == (6, 3, 3)  # out, in / groups, kernel
    x = RNG.normal(size=(2, 5, 6)).astype("float32")
    module, variables = model.unbind()
    _, moved = module.apply(variables, x, train=True, mutable=["batch_stats"])
    trained = module.bind({**variables, **moved})
    trained.save_pretrained(tmp_path)
    again = FlaxOdd.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again(x), trained(x))
    assert np.abs(again(x) - model(x)).max() > 1e-3


def test_flattening_is_undone() -> None:
    tree = {"params": {"layer_0": {"kernel": 1}, "layer_1": {"kernel": 2}, "linear_2": {"bias": 3}, "mask_token": 4}}
    flat = flatten(tree)
    assert flat == {
        ("params", "layer", "0", "kernel"): 1,
        ("params", "layer", "1", "kernel"): 2,
        ("params", "linear_2", "bias"): 3,
        ("params", "mask_token"): 4,
    }
    before = copy.deepcopy(tree)
    assert unflatten(tree, {path: 10 * leaf for path, leaf in flat.items()})["params"]["layer_1"] == {"kernel": 20}
    assert unflatten(tree, flat) == tree == before


CUSTOM = """
import numpy as np
from flax import linen as nn
from maquette import FlaxPreTrainedModel, PretrainedConfig

class WaveConfig(PretrainedConfig):
    model_type = "wave"
    width: int = 4

class FlaxWave(FlaxPreTrainedModel):
    config_class = WaveConfig
    def setup(self):
        self.hear = nn.Conv(self.config.width, (3,))
    @property
    def dummy_inputs(self):
        return {"waves": np.zeros((1, 9, 1), "float32")}
    def __call__(self, waves):
        return {"heard": self.hear(waves)}
"""


def test_code_travels_with_a_flax_model(tmp_path: Path, run_fresh) -> None:
    (tmp_path / "writer").mkdir()
    (tmp_path / "writer" / "modeling_wave.py").write_text(CUSTOM, encoding="utf-8")
    write = """
import sys; sys.path.insert(0, "writer")
from modeling_wave import FlaxWave, WaveConfig
FlaxWave.register_for_auto_class("FlaxAutoModel")
model = FlaxWave.from_config(WaveConfig())
model.save_pretrained("wave", verify=True)
import numpy as np
np.save("expected.npy", np.asarray(model(np.ones((2, 9, 1), "float32"))["heard"]))
"""
    read = """
import numpy as np, sys
from maquette import FlaxAutoModel, UntrustedCodeError
try:
    FlaxAutoModel.from_pretrained("wave")
except UntrustedCodeError as error:
    assert "modeling_wave.py" in str(error) and "flax" not in sys.modules
else:
    raise AssertionError
model = FlaxAutoModel.from_pretrained("wave", trust_remote_code=True)
assert np.array_equal(np.asarray(model(np.ones((2, 9, 1), "float32"))["heard"]), np.load("expected.npy"))
assert not {"torch", "tensorflow", "keras"} & set(sys.modules)
print("equal")
"""
    run_fresh(write)
    (tmp_path / "writer" / "modeling_wave.py").unlink()
    assert run_fresh(read).endswith("equal\n")


def test_no_other_framework_here() -> None:
    assert not {"torch", "tensorflow", "keras"} & set(sys.modules)


def test_one_array_in_two_places_is_saved_twice(tmp_path: Path) -> None:
    """Arrays never change, so a layer that was copied is no tied one."""
    module, variables = FlaxOdd.from_config(OddConfig()).unbind()
    params = {**variables["params"], "blocks_1": variables["params"]["blocks_0"]}
    model = module.bind({**variables, "params": params})
    model.save_pretrained(tmp_path)
    x = RNG.normal(size=(2, 5, 6)).astype("float32")
    np.testing.assert_array_equal(FlaxOdd.from_pretrained(tmp_path, strict=True)(x), model(x))


def test_variables_that_are_not_the_models_are_refused(tmp_path: Path) -> None:
    module, variables = FlaxOdd.from_config(OddConfig()).unbind()
    params = variables["params"]
    wrong = jax.tree.map(lambda leaf: leaf[..., :2], params["blocks_3"])
    fewer = {name: tree for name, tree in params.items() if name != "blocks_4"}
    with pytest.raises(SaveError, match=r"blocks\.4\.linear_1\.weight: not there"):
        module.bind(variables).save_pretrained(tmp_path, params=fewer)
    with pytest.raises(SaveError, match=r"blocks\.3\.linear_1\.bias: \(2,\), where \(6,\) belongs"):
        module.bind(variables).save_pretrained(tmp_path, params={**params, "blocks_3": wrong})
    with pytest.raises(SaveError, match=r"blocks\.0\.norm\.running_mean: not there[\s\S]*'batch_stats'"):
        module.save_pretrained(tmp_path, params=params)
    with pytest.raises(SaveError, match="in another collection"):
        module.bind({**variables, "average": params}).save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


class FlaxScaled(FlaxPreTrainedModel):
    config_class = OddConfig
    factor: float = 1.0

    def setup(self):
        self.embed = nn.Embed(self.config.width, 3)

    @property
    def dummy_inputs(self):
        return {"ids": np.zeros((1, 2), "int32")}

    def __call__(self, ids):
        return self.embed(ids) * self.factor


def test_fields_of_the_module_stay_when_it_is_resized() -> None:
    config = OddConfig(width=6)
    model = FlaxScaled.from_config(config, factor=10.0)
    with pytest.raises(AttributeError, match="vocab_size"):
        model.resize_token_embeddings(8)
    masked = FlaxDistilBertForMaskedLM.from_config(tiny())
    assert masked._rebuilt(tiny(vocab_size=44)).config.vocab_size == 44
    assert model._rebuilt(OddConfig(width=7)).factor == 10.0
