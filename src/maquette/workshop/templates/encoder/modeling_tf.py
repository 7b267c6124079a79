"""Blueprint in Keras: the torch model's layers under the torch model's names, so that all read each other's files.

Padding is computed along and hidden from attention: `real` is `(batch, length)`, 0 at padding, or None (Keras keeps the
name `mask` for something else). `modeling.py` tells what else there is to know.
"""

from typing import Any

from keras import ops
from keras.initializers import RandomNormal
from keras.layers import Activation, Dense, Dropout, Embedding, Layer, RMSNormalization

from maquette import BaseModelOutput, MaskedLMOutput, SequenceClassifierOutput, TFPreTrainedModel
from maquette.modeling.tf_layers import (
    VocabularyScores,
    attention,
    fill_padding,
    gelu,
    join_heads,
    real_positions,
    rotate,
)
from maquette.modeling.tf_losses import compute_classification_loss, compute_token_loss

from .configuration import BlueprintConfig


def linear(outputs: int) -> Dense:
    """Make a linear layer with the initialisation that all have here."""
    return Dense(outputs, kernel_initializer=RandomNormal(stddev=0.02))


class Attention(Layer):
    """Lets tokens look at the tokens of their own row."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        self.heads, self.width = config.heads, config.dim // config.heads
        self.qkv, self.out = linear(3 * config.dim), linear(config.dim)

    def call(self, x: Any, positions: Any, real: Any) -> Any:
        qkv = ops.reshape(self.qkv(x), (*ops.shape(x)[:2], 3, self.heads, self.width))
        q, k, v = ops.unstack(qkv, 3, axis=2)  # (batch, length, heads, width)
        attended, _ = attention(rotate(q, positions), rotate(k, positions), v, real)
        return self.out(join_heads(attended))


class Block(Layer):
    """Attention, then a feed-forward network; each works on normed states and is added to what came in."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNormalization(epsilon=1e-6), RMSNormalization(epsilon=1e-6)
        self.attention = Attention(config)
        self.mlp = [linear(4 * config.dim), Activation(gelu), linear(config.dim)]
        self.dropout = Dropout(config.dropout)

    def call(self, x: Any, positions: Any, real: Any) -> Any:
        x = x + self.dropout(self.attention(self.norm1(x), positions, real))  # (batch, length, dim)
        inner = self.norm2(x)
        for layer in self.mlp:
            inner = layer(inner)
        return x + self.dropout(inner)


class TFBlueprintPreTrainedModel(TFPreTrainedModel):
    """What all Blueprint models share. Heads take the arguments of `TFBlueprintModel`, and labels."""

    config_class = BlueprintConfig
    base_model_prefix = "model"


class TFBlueprintModel(TFBlueprintPreTrainedModel):
    """Turns texts into states, one vector per token."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.embed = Embedding(config.vocab_size, config.dim, embeddings_initializer=RandomNormal(stddev=0.02))
        self.blocks = [Block(config) for _ in range(config.depth)]
        self.norm = RMSNormalization(epsilon=1e-6)

    def call(self, input_ids: Any, attention_mask: Any = None, *, return_dict: bool | None = None) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, dim)`, zeros at padding.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            return_dict: False gives a tuple; unless given, as in the configuration.
        """
        x, positions = self.embed(input_ids), real_positions(input_ids, attention_mask)
        for block in self.blocks:
            x = block(x, positions, attention_mask)
        output = BaseModelOutput(last_hidden_state=fill_padding(self.norm(x), attention_mask))
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class TFBlueprintForMaskedLM(TFBlueprintPreTrainedModel):
    """Scores the vocabulary at every place, to learn from texts in which tokens were hidden."""

    _tied_weights_keys = {"lm_head.weight": "model.embed.weight"}  # noqa: RUF012

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.model = TFBlueprintModel(config)
        self.lm_head = VocabularyScores(config.vocab_size, self.model.embed if config.tie_word_embeddings else None)

    def call(
        self, input_ids: Any, attention_mask: Any = None, *, labels: Any = None, return_dict: bool | None = None
    ) -> Any:
        """Give logits `(batch, length, vocab_size)`; the loss of `labels`, `(batch, length)`, leaves out -100."""
        logits = self.lm_head(self.model(input_ids, attention_mask, return_dict=True).last_hidden_state)
        loss = None if labels is None else compute_token_loss(logits, fill_padding(labels, attention_mask, fill=-100))
        output = MaskedLMOutput(loss=loss, logits=fill_padding(logits, attention_mask))
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class TFBlueprintForSequenceClassification(TFBlueprintPreTrainedModel):
    """Tells which class, or classes, a text is of, from the mean of its tokens' states."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.model = TFBlueprintModel(config)
        self.score = linear(config.num_labels)

    def call(
        self, input_ids: Any, attention_mask: Any = None, *, labels: Any = None, return_dict: bool | None = None
    ) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        x = self.model(input_ids, attention_mask, return_dict=True).last_hidden_state
        real = ops.ones_like(input_ids) if attention_mask is None else attention_mask
        count = ops.maximum(ops.sum(ops.cast(real, x.dtype), axis=1, keepdims=True), 1)
        logits = self.score(ops.sum(x, axis=1) / count)  # padding is zeros
        kind = self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        output = SequenceClassifierOutput(loss=loss, logits=logits)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()
