"""DistilBERT (Sanh et al. 2019) in Flax: the torch model's modules under the torch model's names.

Padding is computed along and hidden from attention; `modeling.py` tells what else there is to know. Models give logits,
no losses. `train=True` drops states out, by the random numbers called "dropout".
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from maquette import (
    FLAX_ACT2FN,
    BaseModelOutput,
    FlaxPreTrainedModel,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from maquette.modeling.flax_layers import (
    VocabularyScores,
    attention,
    fill_padding,
    join_heads,
    split_heads,
    take_firsts,
    zero_row,
)
from maquette.modeling.tables import draw_sinusoids

from .configuration import DistilBertConfig

Opt = Array | None


def linear(config: DistilBertConfig, outputs: int) -> nn.Dense:
    """Make a linear layer as the configuration initialises them."""
    return nn.Dense(outputs, kernel_init=nn.initializers.normal(config.initializer_range))


class Embeddings(nn.Module):
    """Turns token ids, or vectors in their stead, and positions into states."""

    config: DistilBertConfig

    def setup(self) -> None:
        config, normal = self.config, nn.initializers.normal(self.config.initializer_range)
        count, fixed = config.max_position_embeddings, config.sinusoidal_pos_embds
        words = zero_row(normal, config.pad_token_id)
        self.word_embeddings = nn.Embed(config.vocab_size, config.dim, embedding_init=words)
        sinusoids = (lambda *_: jnp.asarray(draw_sinusoids(count, config.dim))) if fixed else normal
        self.position_embeddings = nn.Embed(count, config.dim, embedding_init=sinusoids)
        self.LayerNorm = nn.LayerNorm(epsilon=1e-12, use_fast_variance=False)
        self.dropout = nn.Dropout(config.dropout)

    def __call__(self, tokens: Array, positions: Array, train: bool) -> Array:
        words = self.word_embeddings(tokens) if tokens.ndim == 2 else tokens  # (batch, length, dim)
        return self.dropout(self.LayerNorm(words + self.position_embeddings(positions)), deterministic=not train)


class MultiHeadSelfAttention(nn.Module):
    """Lets tokens look at the tokens of their own row."""

    config: DistilBertConfig
    number: int

    def setup(self) -> None:
        config = self.config
        self.heads = config.n_heads - len(config.pruned_heads.get(self.number, ()))
        width = self.heads * (config.dim // config.n_heads)
        self.q_lin, self.k_lin, self.v_lin = (linear(config, width) for _ in range(3))
        self.out_lin = linear(config, config.dim)
        self.dropout = nn.Dropout(config.attention_dropout)

    def __call__(self, queries: Array, x: Array, mask: Opt, train: bool) -> tuple[Array, Array]:
        q, k, v = (split_heads(y, self.heads) for y in (self.q_lin(queries), self.k_lin(x), self.v_lin(x)))
        attended, weights = attention(q, k, v, mask, dropout=self.dropout, train=train)
        return self.out_lin(join_heads(attended)), weights


class FFN(nn.Module):
    """Works on each token by itself."""

    config: DistilBertConfig

    def setup(self) -> None:
        self.lin1, self.lin2 = linear(self.config, self.config.hidden_dim), linear(self.config, self.config.dim)
        self.dropout = nn.Dropout(self.config.dropout)

    def __call__(self, x: Array, train: bool) -> Array:
        return self.dropout(self.lin2(FLAX_ACT2FN[self.config.activation](self.lin1(x))), deterministic=not train)


class TransformerBlock(nn.Module):
    """Attention, then the feed-forward network; each is added to its input and normed."""

    config: DistilBertConfig
    number: int

    def setup(self) -> None:
        self.attention = MultiHeadSelfAttention(self.config, self.number)
        self.sa_layer_norm = nn.LayerNorm(epsilon=1e-12, use_fast_variance=False)
        self.ffn = FFN(self.config)
        self.output_layer_norm = nn.LayerNorm(epsilon=1e-12, use_fast_variance=False)

    def __call__(self, x: Array, mask: Opt, train: bool, only_first: bool) -> tuple[Array, Array]:
        """Give the states of all tokens, or of each row's first only, and the attention weights."""
        queries = take_firsts(x, mask) if only_first else x
        attended, weights = self.attention(queries, x, mask, train)
        x = self.sa_layer_norm(attended + queries)
        return self.output_layer_norm(self.ffn(x, train) + x), weights


class Transformer(nn.Module):
    """The blocks, one after the other."""

    config: DistilBertConfig

    def setup(self) -> None:
        self.layer = [TransformerBlock(self.config, number) for number in range(self.config.n_layers)]

    def __call__(self, x: Array, mask: Opt, train: bool, only_first: bool) -> tuple[list[Array], list[Array]]:
        """Give the states before, between and after the blocks, and each block's attention weights."""
        states, kept = [x], list[Array]()
        for number, block in enumerate(self.layer, 1):
            x, weights = block(x, mask, train, only_first and number == len(self.layer))
            states, kept = [*states, x], [*kept, weights]
        return states, kept


class FlaxDistilBertPreTrainedModel(FlaxPreTrainedModel):
    """What all DistilBERT models share. Heads take the arguments of `FlaxDistilBertModel`.

    Padding is not real: outputs there are zeros, and a head that reads one token reads each row's first real one.
    """

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    _keys_to_ignore_on_load_unexpected = (r"embeddings\.position_ids$",)  # old checkpoints have this buffer

    def _encode(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any], **wanted: bool) -> Any:
        """Run the base model for a head."""
        return self.distilbert(input_ids, attention_mask, **{**options, **wanted, "return_dict": True})


class FlaxDistilBertModel(FlaxDistilBertPreTrainedModel):
    """Turns texts into states, one vector per token."""

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config)
        self.transformer = Transformer(self.config)

    def __call__(
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        inputs_embeds: Opt = None,
        position_ids: Opt = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        only_first: bool = False,
        train: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, dim)`, and what is asked for besides.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            inputs_embeds: `(batch, length, dim)`, vectors instead of `input_ids`.
            position_ids: `(batch, length)` or `(1, length)`; unless given, places are counted from 0, padding too.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            only_first: give the state of each row's first real token only, `(batch, 1, dim)`.
            train: drop states out.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, or too long an input.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        most = self.config.max_position_embeddings
        inputs = jnp.asarray(self._choose_inputs(input_ids, inputs_embeds, most=most, width=self.config.dim))
        positions = jnp.arange(inputs.shape[1])[None] if position_ids is None else position_ids
        mask = None if attention_mask is None else jnp.asarray(attention_mask)
        narrow = only_first and not keep_states and not keep_weights
        states, weights = self.transformer(self.embeddings(inputs, positions, train), mask, train, narrow)
        x = states[-1] if narrow or not only_first else take_firsts(states[-1], mask)
        output = BaseModelOutput(
            last_hidden_state=x if only_first else fill_padding(x, mask),
            hidden_states=tuple(fill_padding(state, mask) for state in states) if keep_states else None,
            attentions=tuple(weights) if keep_weights else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class FlaxDistilBertForMaskedLM(FlaxDistilBertPreTrainedModel):
    """Scores the vocabulary at every place."""

    _tied_weights_keys = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def setup(self) -> None:
        self.distilbert = FlaxDistilBertModel(self.config)
        self.vocab_transform = linear(self.config, self.config.dim)
        self.vocab_layer_norm = nn.LayerNorm(epsilon=1e-12, use_fast_variance=False)
        tied, scale = self.config.tie_word_embeddings, self.config.initializer_range
        self.vocab_projector = VocabularyScores(self.config.vocab_size, tied=tied, stddev=scale)

    def __call__(self, input_ids: Opt = None, attention_mask: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, length, vocab_size)`."""
        output = self._encode(input_ids, attention_mask, options)
        x = FLAX_ACT2FN[self.config.activation](self.vocab_transform(output.last_hidden_state))
        logits = self.vocab_projector(self.vocab_layer_norm(x), self.distilbert.embeddings.word_embeddings)
        return self._make_output(MaskedLMOutput, output, options, None, fill_padding(logits, attention_mask))


class FlaxDistilBertForTokenClassification(FlaxDistilBertPreTrainedModel):
    """Tells of every token which class it is of."""

    def setup(self) -> None:
        self.distilbert = FlaxDistilBertModel(self.config)
        self.dropout = nn.Dropout(self.config.dropout)
        self.classifier = linear(self.config, self.config.num_labels)

    def __call__(self, input_ids: Opt = None, attention_mask: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, length, num_labels)`."""
        output = self._encode(input_ids, attention_mask, options)
        x = self.dropout(output.last_hidden_state, deterministic=not options.get("train"))
        logits = fill_padding(self.classifier(x), attention_mask)
        return self._make_output(TokenClassifierOutput, output, options, None, logits)


class FlaxDistilBertForQuestionAnswering(FlaxDistilBertPreTrainedModel):
    """Finds where in a text the answer begins and ends."""

    def setup(self) -> None:
        self.distilbert = FlaxDistilBertModel(self.config)
        self.qa_outputs = linear(self.config, 2)
        self.dropout = nn.Dropout(self.config.qa_dropout)

    def __call__(self, input_ids: Opt = None, attention_mask: Opt = None, **options: Any) -> Any:
        """Give two logits `(batch, length)`, the lowest number at padding."""
        output = self._encode(input_ids, attention_mask, options)
        x = self.qa_outputs(self.dropout(output.last_hidden_state, deterministic=not options.get("train")))
        x = fill_padding(x, attention_mask, fill=jnp.finfo(x.dtype).min)  # (batch, length, 2)
        return self._make_output(QuestionAnsweringModelOutput, output, options, None, x[..., 0], x[..., 1])


class _ReadsFirst(FlaxDistilBertPreTrainedModel):
    """A head that reads each row's first token."""

    def _make(self, outputs: int) -> None:
        self.distilbert = FlaxDistilBertModel(self.config)
        self.pre_classifier, self.classifier = linear(self.config, self.config.dim), linear(self.config, outputs)
        self.dropout = nn.Dropout(self.config.seq_classif_dropout)

    def _score(self, first: Array, train: bool | None) -> Array:
        x = self.dropout(nn.relu(self.pre_classifier(first)), deterministic=not train)
        return self.classifier(x)  # (batch, outputs)


class FlaxDistilBertForSequenceClassification(_ReadsFirst):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""

    def setup(self) -> None:
        self._make(self.config.num_labels)

    def __call__(self, input_ids: Opt = None, attention_mask: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`."""
        output = self._encode(input_ids, attention_mask, options, only_first=True)
        logits = self._score(output.last_hidden_state[:, 0], options.get("train"))
        return self._make_output(SequenceClassifierOutput, output, options, None, logits)


class FlaxDistilBertForMultipleChoice(_ReadsFirst):
    """Tells which of several texts fits best; its inputs are `(batch, choices, length)`."""

    def setup(self) -> None:
        self._make(1)

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"input_ids": np.arange(24, dtype=np.int32).reshape(2, 3, 4) % self.config.vocab_size}

    def __call__(self, input_ids: Opt = None, attention_mask: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, choices)`."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **options}
        tensors = {name: x for name, x in given.items() if hasattr(x, "shape")}
        flat = {**given, **{name: x.reshape(-1, *x.shape[2:]) for name, x in tensors.items()}}
        output = self._encode(flat.pop("input_ids"), flat.pop("attention_mask"), flat, only_first=True)
        logits = self._score(output.last_hidden_state[:, 0], options.get("train"))
        logits = logits.reshape(next(iter(tensors.values())).shape[:2])
        return self._make_output(MultipleChoiceModelOutput, output, options, None, logits)
