"""Blueprint in Flax: the torch model's modules under the torch model's names, so that all read each other's files.

Padding is computed along and hidden from attention; `modeling.py` tells what else there is to know. Models give logits,
no losses. `train=True` drops states out, by the random numbers called "dropout".
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from maquette import BaseModelOutput, FlaxPreTrainedModel, MaskedLMOutput, SequenceClassifierOutput
from maquette.modeling.flax_layers import (
    VocabularyScores,
    attention,
    fill_padding,
    gelu,
    join_heads,
    real_positions,
    rotate,
)

from .configuration import BlueprintConfig

Opt = Array | None


def linear(outputs: int) -> nn.Dense:
    """Make a linear layer with the initialisation that all have here."""
    return nn.Dense(outputs, kernel_init=nn.initializers.normal(0.02))


class Attention(nn.Module):
    """Lets tokens look at the tokens of their own row."""

    config: BlueprintConfig

    def setup(self) -> None:
        self.qkv, self.out = linear(3 * self.config.dim), linear(self.config.dim)

    def __call__(self, x: Array, positions: Array, mask: Opt) -> Array:
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, self.config.heads, -1)
        q, k, v = (qkv[:, :, part] for part in range(3))  # (batch, length, heads, width)
        attended, _ = attention(rotate(q, positions), rotate(k, positions), v, mask)
        return self.out(join_heads(attended))


class Block(nn.Module):
    """Attention, then a feed-forward network; each works on normed states and is added to what came in."""

    config: BlueprintConfig

    def setup(self) -> None:
        self.norm1, self.norm2 = nn.RMSNorm(epsilon=1e-6), nn.RMSNorm(epsilon=1e-6)
        self.attention = Attention(self.config)
        self.mlp: list[Any] = [linear(4 * self.config.dim), gelu, linear(self.config.dim)]
        self.dropout = nn.Dropout(self.config.dropout)

    def __call__(self, x: Array, positions: Array, mask: Opt, train: bool) -> Array:
        attended = self.attention(self.norm1(x), positions, mask)
        x = x + self.dropout(attended, deterministic=not train)  # (batch, length, dim)
        inner = self.norm2(x)
        for layer in self.mlp:
            inner = layer(inner)
        return x + self.dropout(inner, deterministic=not train)


class FlaxBlueprintPreTrainedModel(FlaxPreTrainedModel):
    """What all Blueprint models share. Heads take the arguments of `FlaxBlueprintModel`."""

    config_class = BlueprintConfig
    base_model_prefix = "model"


class FlaxBlueprintModel(FlaxBlueprintPreTrainedModel):
    """Turns texts into states, one vector per token."""

    def setup(self) -> None:
        normal = nn.initializers.normal(0.02)
        self.embed = nn.Embed(self.config.vocab_size, self.config.dim, embedding_init=normal)
        self.blocks = [Block(self.config) for _ in range(self.config.depth)]
        self.norm = nn.RMSNorm(epsilon=1e-6)

    def __call__(
        self, input_ids: Array, attention_mask: Opt = None, *, return_dict: bool | None = None, train: bool = False
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, dim)`, zeros at padding.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            return_dict: False gives a tuple; unless given, as in the configuration.
            train: drop states out.
        """
        mask = None if attention_mask is None else jnp.asarray(attention_mask)
        x, positions = self.embed(jnp.asarray(input_ids)), real_positions(input_ids, mask)
        for block in self.blocks:
            x = block(x, positions, mask, train)
        output = BaseModelOutput(last_hidden_state=fill_padding(self.norm(x), mask))
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class FlaxBlueprintForMaskedLM(FlaxBlueprintPreTrainedModel):
    """Scores the vocabulary at every place, to learn from texts in which tokens were hidden."""

    _tied_weights_keys = {"lm_head.weight": "model.embed.weight"}  # noqa: RUF012

    def setup(self) -> None:
        self.model = FlaxBlueprintModel(self.config)
        self.lm_head = VocabularyScores(self.config.vocab_size, tied=self.config.tie_word_embeddings)

    def __call__(
        self, input_ids: Array, attention_mask: Opt = None, *, return_dict: bool | None = None, train: bool = False
    ) -> Any:
        """Give logits `(batch, length, vocab_size)`."""
        x = self.model(input_ids, attention_mask, return_dict=True, train=train).last_hidden_state
        logits = self.lm_head(x, self.model.embed)
        output = MaskedLMOutput(logits=fill_padding(logits, attention_mask))
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class FlaxBlueprintForSequenceClassification(FlaxBlueprintPreTrainedModel):
    """Tells which class, or classes, a text is of, from the mean of its tokens' states."""

    def setup(self) -> None:
        self.model = FlaxBlueprintModel(self.config)
        self.score = linear(self.config.num_labels)

    def __call__(
        self, input_ids: Array, attention_mask: Opt = None, *, return_dict: bool | None = None, train: bool = False
    ) -> Any:
        """Give logits `(batch, num_labels)`."""
        x = self.model(input_ids, attention_mask, return_dict=True, train=train).last_hidden_state
        count = x.shape[1] if attention_mask is None else attention_mask.sum(1, keepdims=True).clip(1)
        output = SequenceClassifierOutput(logits=self.score(x.sum(1) / count))  # padding is zeros
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()
