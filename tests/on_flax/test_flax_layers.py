"""Layers of Flax that torch orders or names otherwise: what files hold of them gives torch's numbers."""

from pathlib import Path

import numpy as np
import pytest
from flax import linen as nn
from numpy_convolutions import convolve, convolve_transposed

from maquette import DistilBertConfig, FlaxDistilBertModel, FlaxPreTrainedModel, PretrainedConfig

RNG = np.random.default_rng(0)


class FlaxConvolutions(FlaxPreTrainedModel):
    config_class = PretrainedConfig
    as_torch: bool = False

    def setup(self):
        self.deep = nn.Conv(6, (3, 2), strides=2, padding="VALID", feature_group_count=3)
        self.up = nn.ConvTranspose(4, (3, 2), strides=(2, 2), padding="VALID", transpose_kernel=self.as_torch)

    @property
    def dummy_inputs(self):
        return {"x": np.ones((1, 5, 6, 3), "float32")}

    def __call__(self, x):
        return {"deep": self.deep(x), "up": self.up(x)}


@pytest.mark.parametrize("as_torch", [False, True])
def test_convolutions_of_every_kind_are_saved_as_torch_has_them(as_torch: bool, tmp_path: Path) -> None:
    model = FlaxConvolutions.from_config(PretrainedConfig(), as_torch=as_torch)
    x = RNG.normal(size=(2, 3, 5, 6)).astype("float32")
    found = model(np.moveaxis(x, 1, -1))
    w = {name: array.astype("float64") for name, array in model.state_arrays().items()}
    assert w["up.weight"].shape == (3, 4, 3, 2)
    expected = {
        "deep": convolve(x, w["deep.weight"], w["deep.bias"], stride=2, groups=3),
        "up": convolve_transposed(x, w["up.weight"], w["up.bias"], stride=2),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], np.moveaxis(value, 1, -1), atol=1e-5)
    model.save_pretrained(tmp_path)
    again = FlaxConvolutions.from_pretrained(tmp_path, strict=True, as_torch=as_torch)
    for name, array in again.state_arrays().items():
        np.testing.assert_array_equal(array, w[name])


class Relu(nn.Module):
    def __call__(self, x):
        return nn.relu(x)


class FlaxLists(FlaxPreTrainedModel):
    config_class = PretrainedConfig

    def setup(self):
        self.layers = [Relu(), nn.Dense(3), Relu(), nn.Dense(3)]
        self.pairs = [[nn.Dense(3), nn.Dense(3)], [nn.Dense(3)]]
        self.by_name = {"a": nn.Dense(3), "b_1": [Relu(), nn.Dense(3)]}
        self.dense_1 = nn.Dense(3)

    @property
    def dummy_inputs(self):
        return {"x": np.ones((1, 3), "float32")}

    def __call__(self, x):
        inner = [*self.layers, *self.pairs[0], *self.pairs[1], self.by_name["a"], *self.by_name["b_1"], self.dense_1]
        for layer in inner:
            x = layer(x)
        return x


def test_members_of_lists_and_dictionaries_are_named_by_their_places(tmp_path: Path) -> None:
    model = FlaxLists.from_config(PretrainedConfig())
    places = ["layers.1", "layers.3", "pairs.0.0", "pairs.0.1", "pairs.1.0", "by_name.a", "by_name.b_1.1", "dense_1"]
    assert set(model.state_arrays()) == {f"{place}.{leaf}" for place in places for leaf in ("weight", "bias")}
    model.save_pretrained(tmp_path)
    again, x = FlaxLists.from_pretrained(tmp_path, strict=True), RNG.normal(size=(4, 3)).astype("float32")
    np.testing.assert_array_equal(again(x), model(x))
    module, variables = model.unbind()  # a module bound by hand knows the names too
    assert list(module.bind(variables).state_arrays()) == list(model.state_arrays())


def test_fresh_padding_starts_at_zero_where_there_is_a_token_for_it() -> None:
    tiny = {"vocab_size": 40, "dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 8}
    for token in (0, 3, None):
        model = FlaxDistilBertModel.from_config(DistilBertConfig(**tiny, pad_token_id=token))
        empty = ~model.state_arrays()["embeddings.word_embeddings.weight"].any(1)
        assert list(np.flatnonzero(empty)) == [row for row in (token,) if row is not None]
