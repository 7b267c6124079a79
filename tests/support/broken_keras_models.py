"""Keras models that each break one promise, and one that keeps all; the conformance kit has to name the culprit."""

import os
import random
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from maquette import CausalLMOutput, PretrainedConfig, TFPreTrainedModel
from maquette.modeling.tf_layers import VocabularyScores, fill_padding
from maquette.modeling.tf_losses import compute_token_loss

PARENT = os.environ.setdefault("MAQUETTE_TEST_PARENT", str(os.getpid()))


class ScribeConfig(PretrainedConfig):
    model_type = "keras_scribe"
    vocab_size: int = 23
    dim: int = 8
    depth: int = 2
    dropout: float = 0.1


class TFScribe(TFPreTrainedModel):
    """Keeps every promise: scores the vocabulary at every place, with the input embeddings' own weights."""

    config_class = ScribeConfig
    _tied_weights_keys = {"scores.weight": "embed.weight"}  # noqa: RUF012

    def __init__(self, config: ScribeConfig) -> None:
        super().__init__(config)
        self.embed = layers.Embedding(config.vocab_size, config.dim)
        self.layer = [layers.Dense(config.dim, activation="gelu") for _ in range(config.depth)]
        self.norm = layers.BatchNormalization()
        self.dropout = layers.Dropout(config.dropout)
        self.scores = VocabularyScores(config.vocab_size, self.embed)

    def call(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> CausalLMOutput:
        x = fill_padding(self.embed(input_ids), attention_mask)  # (batch, length, dim)
        x = x + ops.mean(x, axis=1, keepdims=True)
        for layer in self.layer:
            x = x + self.dropout(layer(x))
        logits = self.scores(self.norm(x))
        loss = None if labels is None else compute_token_loss(logits, labels)
        return CausalLMOutput(loss=loss, logits=logits)


class ToyConfig(PretrainedConfig):
    model_type = "keras_toy"
    dim: int = 4


class Toy(TFPreTrainedModel):
    """Keeps every promise; each class below breaks one."""

    config_class = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.line = layers.Dense(config.dim)

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"x": np.linspace(-1, 2, 3 * self.config.dim, dtype="float32").reshape(3, -1)}

    def call(self, x: Any) -> Any:
        return {"logits": self.line(x)}


# construction, forward ------------------------------------------------------------------------------------------------


class FailsConstruction(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        if config.dim % 2 == 0:
            raise ValueError(f"dim must be odd, not {config.dim}.")


class FailsOnDummies(Toy):
    def call(self, x: Any) -> Any:
        return {"logits": self.line(ops.reshape(x, (5, -1)))}


class ReturnsNothing(Toy):
    def call(self, x: Any) -> Any:
        self.line(x)
        return {"size": len(x.shape)}


class ReturnsInfinity(Toy):
    def call(self, x: Any) -> Any:
        return {"logits": self.line(x) / 0}


# seed, from_config -----------------------------------------------------------------------------------------------


class DrawsFromTheSystem(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        drawn = keras.initializers.Constant(np.random.default_rng().random(config.dim))
        self.offset = self.add_weight(shape=(config.dim,), initializer=drawn)

    def call(self, x: Any) -> Any:
        return {"logits": self.line(x + self.offset)}


class HasOtherFromConfig(Toy):
    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> Any:
        model = super().from_config(config, **kwargs)
        model.line.bias.assign(np.ones(model.config.dim))
        model.config.dim = 9
        return model


# names -----------------------------------------------------------------------------------------------------------


class HidesALayer(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self._secret = layers.Dense(config.dim, use_bias=False)

    def call(self, x: Any) -> Any:
        return {"logits": self.line(self._secret(x))}


class EnclosesALayer(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        inner = layers.Dense(config.dim, use_bias=False, name="enclosed")
        self.first = lambda x: inner(x)

    def call(self, x: Any) -> Any:
        return {"logits": self.line(self.first(x))}


class HasTwoOfOneName(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.line_ = layers.Dense(config.dim, use_bias=False)

    def call(self, x: Any) -> Any:
        return {"logits": self.line(self.line_(x))}


# determinism, batch, padding -------------------------------------------------------------------------------------


class DropsInEvaluation(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.seeds = keras.random.SeedGenerator()

    def call(self, x: Any) -> Any:
        return {"logits": keras.random.dropout(self.line(x), 0.5, seed=self.seeds)}


class CountsInEvaluation(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        self.seen.assign_add(1.0)
        return {"logits": self.line(x)}


class MixesTheBatch(Toy):
    def call(self, x: Any) -> Any:
        y = self.line(x)
        return {"logits": y - ops.mean(y, axis=0)}


class SqueezesOneExample(Toy):
    def call(self, x: Any) -> Any:
        return {"logits": ops.softmax(ops.squeeze(self.line(x)), axis=1)}


class PoolsPadding(TFPreTrainedModel):
    """Averages hidden tokens too."""

    config_class = ScribeConfig

    def __init__(self, config: ScribeConfig) -> None:
        super().__init__(config)
        self.embed = layers.Embedding(config.vocab_size, config.dim)

    def call(self, input_ids: Any, attention_mask: Any = None) -> Any:
        x = self.embed(input_ids)  # (batch, length, dim)
        return {"tokens": x, "summary": ops.mean(x, axis=1)}


# reload, ties ----------------------------------------------------------------------------------------------------


class LeavesBiasUnsaved(Toy):
    _keys_to_ignore_on_save = ("line.bias",)


class ForgetsBias(Toy):
    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        model = super().from_pretrained(*args, **kwargs)
        model.line.bias.assign(np.ones(model.config.dim))
        return model


class RollsDice(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.gain = 1 + random.random()

    def call(self, x: Any) -> Any:
        return {"logits": self.line(x) * self.gain}


class WidensItsConfig(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        config.tokenizer_class = (config.tokenizer_class or "") + "Fast"


class ForgetsToTie(Toy):
    _tied_weights_keys = {"back.weight": "line.weight", "line.bias": "line.nothing"}  # noqa: RUF012

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.back = layers.Dense(config.dim, use_bias=False)

    def call(self, x: Any) -> Any:
        return {"logits": self.back(self.line(x))}


class UntiesWhenLoaded(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.again = self.line

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        model = super().from_pretrained(*args, **kwargs)
        model.again = "no more"
        return model


# half precision, resizing ----------------------------------------------------------------------------------------


class OverflowsInHalf(Toy):
    def call(self, x: Any) -> Any:
        y = self.line(x)
        limit = ops.cast(np.finfo("float32").max, y.dtype)
        return {"logits": y + (limit - limit)}


class KeepsFloat32(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.offset = self.add_weight(shape=(config.dim,), dtype="float32")

    def call(self, x: Any) -> Any:
        return {"logits": self.line(x) + ops.cast(self.offset, x.dtype)}


class ShufflesRows(TFScribe):
    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        model = super().resize_token_embeddings(*args, **kwargs)
        model.embed.embeddings.assign(ops.flip(model.embed.embeddings, axis=0))
        return model


class HidesItsScores(PoolsPadding):
    def __init__(self, config: ScribeConfig) -> None:
        super().__init__(config)
        self.scores = layers.Dense(23)

    def call(self, input_ids: Any) -> Any:
        return {"logits": self.scores(self.embed(input_ids))}


# loss, gradients, statistics -------------------------------------------------------------------------------------


class Classifier(Toy):
    """Keeps the contract of labels and loss; the ones below do not."""

    def call(self, x: Any, labels: Any = None) -> Any:
        logits = self.line(x)
        return {"logits": logits} if labels is None else self.with_loss(logits, labels)

    def with_loss(self, logits: Any, labels: Any) -> Any:
        return {"loss": compute_token_loss(logits, labels), "logits": logits}


class LosesPerExample(Classifier):
    def with_loss(self, logits: Any, labels: Any) -> Any:
        return {"loss": -ops.take_along_axis(logits, labels[:, None], axis=1)[:, 0], "logits": logits}


class NamesLossOtherwise(Classifier):
    def with_loss(self, logits: Any, labels: Any) -> Any:
        return {"cost": compute_token_loss(logits, labels), "scores": logits}


class ReturnsPair(Classifier):
    def with_loss(self, logits: Any, labels: Any) -> Any:
        return compute_token_loss(logits, labels), logits


class LosesInfinity(Classifier):
    def with_loss(self, logits: Any, labels: Any) -> Any:
        return {"loss": compute_token_loss(logits, labels) / 0, "logits": logits}


class StopsTheGradient(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.before = layers.Dense(config.dim, use_bias=False)

    def call(self, x: Any) -> Any:
        return {"logits": self.line(ops.stop_gradient(self.before(x)))}


class TakesRootOfZero(Toy):
    def call(self, x: Any) -> Any:
        return {"logits": ops.sqrt(self.line(x) * 0)}


class FreezesItsStatistics(Toy):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.norm = layers.BatchNormalization()

    def call(self, x: Any) -> Any:
        return {"logits": self.norm(self.line(x), training=False)}


# compile, fit ----------------------------------------------------------------------------------------------------


class BranchesOnValues(Toy):
    def call(self, x: Any) -> Any:
        y = self.line(x)
        return {"logits": y * (1.0 if float(ops.sum(y)) > 0 else 2.0)}


class DiffersCompiled(Toy):
    def call(self, x: Any) -> Any:
        plain = type(x).__name__ in ("EagerTensor", "ArrayImpl")
        return {"logits": self.line(x) * (1 if plain else 2)}


class LearnsNothing(Classifier):
    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any) -> Any:
        return ops.sum(y_pred["logits"]) * 0


class DescribesAnother(Classifier):
    def get_config(self) -> dict[str, Any]:
        return {"config": {**self.config.to_dict(), "dim": 5}}


# fresh process ---------------------------------------------------------------------------------------------------


class KnowsItsProcess(Toy):
    def call(self, x: Any) -> Any:
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


class SeveralThings(KeepsFloat32):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self._secret = layers.Dense(config.dim, use_bias=False)

    def call(self, x: Any) -> Any:
        return {"logits": super().call(ops.stop_gradient(self._secret(x)))["logits"]}


# state -----------------------------------------------------------------------------------------------------------


class ReadsOn(Toy):
    """Sums up what it has read, from where an earlier call stopped."""

    begins = True

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"x": np.linspace(-1, 1, 24, dtype="float32").reshape(2, 3, 4)}

    def call(self, x: Any, state: Any = None) -> Any:
        sums = ops.cumsum(self.line(x), axis=1)
        sums = sums if state is None or not self.begins else sums + state[:, None]
        return {"logits": sums, "state": sums[:, -1]}


class StartsAnew(ReadsOn):
    begins = False
