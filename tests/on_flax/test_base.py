"""What every Flax model can do: being bound and unbound, training, loading with differences, types, vocabularies."""

import copy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from base_tests import *  # noqa: F403
from base_tests import INPUTS, LABELS, RNG, tiny
from flax import linen as nn
from flax.training.train_state import TrainState
from safetensors.numpy import load_file

from maquette import (
    FlaxAutoModelForSequenceClassification,
    FlaxDistilBertForMaskedLM,
    FlaxDistilBertForSequenceClassification,
    FlaxDistilBertModel,
    FlaxPreTrainedModel,
    PretrainedConfig,
    SaveError,
)
from maquette.checkpoint.axes import flatten, unflatten


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


def test_fresh_weights_of_a_head_follow_the_seed(tmp_path: Path) -> None:
    FlaxDistilBertModel.from_config(tiny()).save_pretrained(tmp_path)
    loaded = [FlaxDistilBertForSequenceClassification.from_pretrained(tmp_path, seed=seed) for seed in (0, 5)]
    kernels = [model.state_arrays()["classifier.weight"] for model in loaded]
    assert 0 < np.std(kernels[0]) < 0.1 and not np.array_equal(*kernels)


def test_a_module_without_variables_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no variables: bind it to some, module\.bind\(variables\)"):
        FlaxDistilBertModel(tiny()).save_pretrained(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists() or not list((tmp_path / "nothing").iterdir())


def test_a_model_tells_its_type() -> None:
    assert FlaxDistilBertModel.from_config(tiny(), dtype="bfloat16").dtype == jnp.bfloat16


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
