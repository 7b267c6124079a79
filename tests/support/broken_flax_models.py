"""Flax models that each break one promise, and one that keeps all; the conformance kit has to name the culprit."""

import dataclasses
import os
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from maquette import CausalLMOutput, FlaxPreTrainedModel, PretrainedConfig
from maquette.modeling.flax_layers import VocabularyScores, fill_padding

PARENT = os.environ.setdefault("MAQUETTE_TEST_PARENT", str(os.getpid()))


class ScribeConfig(PretrainedConfig):
    model_type = "flax_scribe"
    vocab_size: int = 23
    dim: int = 8
    depth: int = 2
    dropout: float = 0.1


class FlaxScribe(FlaxPreTrainedModel):
    """Keeps every promise: scores the vocabulary at every place, with the input embeddings' own weights."""

    config_class = ScribeConfig
    _tied_weights_keys = {"scores.weight": "embed.weight"}  # noqa: RUF012

    def setup(self) -> None:
        config = self.config
        self.embed = nn.Embed(config.vocab_size, config.dim)
        self.layer = [nn.Dense(config.dim) for _ in range(config.depth)]
        self.norm = nn.BatchNorm()
        self.dropout = nn.Dropout(config.dropout)
        self.scores = VocabularyScores(config.vocab_size)

    def __call__(self, input_ids: Any, attention_mask: Any = None, train: bool = False) -> CausalLMOutput:
        x = fill_padding(self.embed(jnp.asarray(input_ids)), attention_mask)  # (batch, length, dim)
        x = x + x.mean(1, keepdims=True)
        for layer in self.layer:
            x = x + self.dropout(nn.gelu(layer(x)), deterministic=not train)
        return CausalLMOutput(logits=self.scores(self.norm(x, use_running_average=not train), self.embed))


class ToyConfig(PretrainedConfig):
    model_type = "flax_toy"
    dim: int = 4


class Toy(FlaxPreTrainedModel):
    """Keeps every promise; each class below breaks one."""

    config_class = ToyConfig

    def setup(self) -> None:
        self.line = nn.Dense(self.config.dim)

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"x": np.linspace(-1, 2, 3 * self.config.dim, dtype="float32").reshape(3, -1)}

    def __call__(self, x: Any) -> Any:
        return {"logits": self.line(x)}


# construction, forward ------------------------------------------------------------------------------------------------


class FailsConstruction(Toy):
    def setup(self) -> None:
        if self.config.dim % 2 == 0:
            raise ValueError(f"dim must be odd, not {self.config.dim}.")


class ReturnsNothing(Toy):
    def __call__(self, x: Any) -> Any:
        self.line(x)
        return {"size": x.ndim}


class ReturnsInfinity(Toy):
    def __call__(self, x: Any) -> Any:
        return {"logits": self.line(x) / 0}


# seed, from_config -----------------------------------------------------------------------------------------------


class DrawsFromTheSystem(Toy):
    def setup(self) -> None:
        super().setup()
        drawn = np.random.default_rng().random(self.config.dim, dtype="float32")
        self.offset = self.param("offset", lambda key: jnp.asarray(drawn))

    def __call__(self, x: Any) -> Any:
        return {"logits": self.line(x + self.offset)}


class HasOtherFromConfig(Toy):
    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> Any:
        model = super().from_config(config, **kwargs)
        model.config.dim = 9
        return model._with_arrays({("line", "bias"): np.ones(4, "float32")})


# names -----------------------------------------------------------------------------------------------------------


class CountsItsLayers(Toy):
    def setup(self) -> None:
        self.line_0, self.line_1 = nn.Dense(self.config.dim), nn.Dense(self.config.dim)

    def __call__(self, x: Any) -> Any:
        return {"logits": self.line_1(self.line_0(x))}


class NamesNothing(Toy):
    def setup(self) -> None:
        pass

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return {"logits": nn.Dense(self.config.dim)(x)}


class HasTwoOfOneName(Toy):
    def setup(self) -> None:
        super().setup()
        self.scale = self.param("scale", nn.initializers.ones, (self.config.dim,))
        self.weight = self.param("weight", nn.initializers.ones, (self.config.dim,))

    def __call__(self, x: Any) -> Any:
        return {"logits": self.line(x * self.scale * self.weight)}


# determinism, batch, padding -------------------------------------------------------------------------------------


class DropsInEvaluation(Toy):
    def __call__(self, x: Any) -> Any:
        return {"logits": self.line(x * random.random())}


class ChangesItsInput(Toy):
    def __call__(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            x *= 2
        return {"logits": self.line(x) * 0}


class MixesTheBatch(Toy):
    def __call__(self, x: Any) -> Any:
        y = self.line(x)
        return {"logits": y - y.mean(0)}


class SqueezesOneExample(Toy):
    def __call__(self, x: Any) -> Any:
        return {"logits": jax.nn.softmax(self.line(x).squeeze(), axis=1)}


class PoolsPadding(FlaxPreTrainedModel):
    """Averages hidden tokens too."""

    config_class = ScribeConfig

    def setup(self) -> None:
        self.embed = nn.Embed(self.config.vocab_size, self.config.dim)

    def __call__(self, input_ids: Any, attention_mask: Any = None) -> Any:
        x = self.embed(jnp.asarray(input_ids))  # (batch, length, dim)
        return {"tokens": x, "summary": x.mean(1)}


# reload, ties ----------------------------------------------------------------------------------------------------


class LeavesBiasUnsaved(Toy):
    _keys_to_ignore_on_save = ("line.bias",)


class ForgetsBias(Toy):
    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        return super().from_pretrained(*args, **kwargs)._with_arrays({("line", "bias"): np.ones(4, "float32")})


class RollsDice(Toy):
    gain: float = dataclasses.field(default_factory=random.random)

    def __call__(self, x: Any) -> Any:
        return {"logits": self.line(x) * self.gain}


class WidensItsConfig(Toy):
    def __post_init__(self) -> None:
        if self.parent is None or not self.name:
            self.config.tokenizer_class = (self.config.tokenizer_class or "") + "Fast"
        super().__post_init__()


class ForgetsToTie(Toy):
    _tied_weights_keys = {"back.weight": "line.weight", "line.bias": "line.nothing"}  # noqa: RUF012

    def setup(self) -> None:
        super().setup()
        self.back = nn.Dense(self.config.dim, use_bias=False)

    def __call__(self, x: Any) -> Any:
        return {"logits": self.back(self.line(x))}


# half precision, resizing ----------------------------------------------------------------------------------------


class OverflowsInHalf(Toy):
    def __call__(self, x: Any) -> Any:
        y = self.line(x)
        limit = jnp.asarray(np.finfo("float32").max).astype(self.line.variables["params"]["bias"].dtype)
        return {"logits": y + (limit - limit).astype(y.dtype)}


class ShufflesRows(FlaxScribe):
    @nn.nowrap
    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        model = super().resize_token_embeddings(*args, **kwargs)
        return model._with_arrays({("embed", "embedding"): model.state_arrays()["embed.weight"][::-1]})


class HidesItsScores(PoolsPadding):
    def setup(self) -> None:
        super().setup()
        self.scores = nn.Dense(23)

    def __call__(self, input_ids: Any) -> Any:
        return {"logits": self.scores(self.embed(jnp.asarray(input_ids)))}


# gradients, statistics, compile ----------------------------------------------------------------------------------


class StopsTheGradient(Toy):
    def setup(self) -> None:
        super().setup()
        self.before = nn.Dense(self.config.dim, use_bias=False)

    def __call__(self, x: Any) -> Any:
        return {"logits": self.line(jax.lax.stop_gradient(self.before(x)))}


class TakesRootOfZero(Toy):
    def __call__(self, x: Any) -> Any:
        return {"logits": jnp.sqrt(self.line(x) * 0)}


class NeedsUnknownNumbers(StopsTheGradient):
    def __call__(self, x: Any, train: bool = False) -> Any:
        if train:
            self.make_rng("noise")
        return super().__call__(x)


class FreezesItsStatistics(Toy):
    def setup(self) -> None:
        super().setup()
        self.norm = nn.BatchNorm(use_running_average=True)

    def __call__(self, x: Any, train: bool = False) -> Any:
        return {"logits": self.norm(self.line(x))}


class AlwaysTrains(Toy):
    def setup(self) -> None:
        super().setup()
        self.norm = nn.BatchNorm()

    def __call__(self, x: Any, train: bool = False) -> Any:
        resting = not self.is_mutable_collection("batch_stats")
        return {"logits": self.norm(self.line(x), use_running_average=resting)}


class BranchesOnValues(Toy):
    def __call__(self, x: Any) -> Any:
        y = self.line(x)
        if self.is_initializing():
            return {"logits": y}
        return {"logits": y * (1.0 if float(y.sum()) > 0 else 2.0)}


class DiffersCompiled(Toy):
    def __call__(self, x: Any) -> Any:
        return {"logits": self.line(x) * (2 if isinstance(x, jax.core.Tracer) else 1)}


# fresh process ---------------------------------------------------------------------------------------------------


class KnowsItsProcess(Toy):
    def __call__(self, x: Any) -> Any:
        return {"logits": self.line(x) * os.getpid()}


class BringsTorch(Toy):
    """In another process than the one that runs the tests."""

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        if str(os.getpid()) != PARENT:
            import torch  # noqa: F401
        return super().from_pretrained(*args, **kwargs)


class MovedAway(Toy):
    """Found under this name only where someone puts it."""


MovedAway.__qualname__ = "nowhere_to_be_found"


# state -----------------------------------------------------------------------------------------------------------


class ReadsOn(Toy):
    """Sums up what it has read, from where an earlier call stopped."""

    begins = True

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"x": np.linspace(-1, 1, 24, dtype="float32").reshape(2, 3, 4)}

    def __call__(self, x: Any, state: Any = None) -> Any:
        sums = jnp.cumsum(self.line(x), axis=1)
        sums = sums if state is None or not self.begins else sums + state[:, None]
        return {"logits": sums, "state": sums[:, -1]}


class StartsAnew(ReadsOn):
    begins = False
