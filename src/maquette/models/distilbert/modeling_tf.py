"""DistilBERT (Sanh et al. 2019) in Keras: the torch model's layers under the torch model's names.

Padding is computed along and hidden from attention: `real` is `(batch, length)`, 0 at padding, or None (Keras keeps the
name `mask` for something else). `modeling.py` tells what else there is to know.
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Dense, Dropout, Embedding, Layer, LayerNormalization

from maquette import (
    TF_ACT2FN,
    BaseModelOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TFPreTrainedModel,
    TokenClassifierOutput,
)
from maquette.modeling.tables import draw_sinusoids
from maquette.modeling.tf_layers import (
    VocabularyScores,
    attention,
    fill_padding,
    join_heads,
    lowest,
    split_heads,
    take_firsts,
    zero_row,
)
from maquette.modeling.tf_losses import compute_classification_loss, compute_span_loss, compute_token_loss

from .configuration import DistilBertConfig


def linear(config: DistilBertConfig, outputs: int) -> Dense:
    """Make a linear layer as the configuration initialises them."""
    return Dense(outputs, kernel_initializer=keras.initializers.RandomNormal(stddev=config.initializer_range))


class Embeddings(Layer):
    """Turns token ids, or vectors in their stead, and positions into states."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=config.initializer_range)
        words = zero_row(normal, config.pad_token_id)
        self.word_embeddings = Embedding(config.vocab_size, config.dim, embeddings_initializer=words)
        count, fixed = config.max_position_embeddings, config.sinusoidal_pos_embds
        sinusoids = keras.initializers.Constant(draw_sinusoids(count, config.dim)) if fixed else normal
        self.position_embeddings = Embedding(count, config.dim, embeddings_initializer=sinusoids, trainable=not fixed)
        self.LayerNorm = LayerNormalization(epsilon=1e-12)
        self.dropout = Dropout(config.dropout)

    def call(self, tokens: Any, positions: Any) -> Any:
        words = self.word_embeddings(tokens) if len(tokens.shape) == 2 else tokens  # (batch, length, dim)
        return self.dropout(self.LayerNorm(words + self.position_embeddings(positions)))


class MultiHeadSelfAttention(Layer):
    """Lets tokens look at the tokens of their own row."""

    def __init__(self, config: DistilBertConfig, number: int) -> None:
        super().__init__()
        self.heads = config.n_heads - len(config.pruned_heads.get(number, ()))
        width = self.heads * (config.dim // config.n_heads)
        self.q_lin, self.k_lin, self.v_lin = (linear(config, width) for _ in range(3))
        self.out_lin = linear(config, config.dim)
        self.dropout = Dropout(config.attention_dropout)

    def call(self, queries: Any, x: Any, real: Any) -> Any:
        q, k, v = (split_heads(y, self.heads) for y in (self.q_lin(queries), self.k_lin(x), self.v_lin(x)))
        attended, weights = attention(q, k, v, real, dropout=self.dropout)  # (batch, queries, heads, width)
        return self.out_lin(join_heads(attended)), weights


class FFN(Layer):
    """Works on each token by itself."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.lin1, self.lin2 = linear(config, config.hidden_dim), linear(config, config.dim)
        self.activation = TF_ACT2FN[config.activation]
        self.dropout = Dropout(config.dropout)

    def call(self, x: Any) -> Any:
        return self.dropout(self.lin2(self.activation(self.lin1(x))))


class TransformerBlock(Layer):
    """Attention, then the feed-forward network; each is added to its input and normed."""

    def __init__(self, config: DistilBertConfig, number: int) -> None:
        super().__init__()
        self.attention = MultiHeadSelfAttention(config, number)
        self.sa_layer_norm = LayerNormalization(epsilon=1e-12)
        self.ffn = FFN(config)
        self.output_layer_norm = LayerNormalization(epsilon=1e-12)

    def call(self, x: Any, real: Any, only_first: bool = False) -> Any:
        """Give the states of all tokens, or of each row's first only, and the attention weights."""
        queries = take_firsts(x, real) if only_first else x
        attended, weights = self.attention(queries, x, real)
        x = self.sa_layer_norm(attended + queries)
        return self.output_layer_norm(self.ffn(x) + x), weights


class Transformer(Layer):
    """The blocks, one after the other."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.layer = [TransformerBlock(config, number) for number in range(config.n_layers)]

    def call(self, x: Any, real: Any, only_first: bool = False) -> Any:
        """Give the states before, between and after the blocks, and each block's attention weights."""
        states, kept = [x], list[Any]()
        for block in self.layer:
            x, weights = block(x, real, only_first=only_first and block is self.layer[-1])
            states, kept = [*states, x], [*kept, weights]
        return states, kept


class TFDistilBertPreTrainedModel(TFPreTrainedModel):
    """What all DistilBERT models share. Heads take the arguments of `TFDistilBertModel`, and labels.

    Padding is not real: outputs there are zeros, labels there are ignored, and a head that reads one token reads each
    row's first real one.
    """

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    _keys_to_ignore_on_load_unexpected = (r"embeddings\.position_ids$",)  # old checkpoints have this buffer

    def _encode(self, input_ids: Any, attention_mask: Any, options: dict[str, Any], **wanted: bool) -> Any:
        """Run the base model for a head."""
        return self.distilbert(input_ids, attention_mask, **{**options, **wanted, "return_dict": True})


class TFDistilBertModel(TFDistilBertPreTrainedModel):
    """Turns texts into states, one vector per token."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.transformer = Transformer(config)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        inputs_embeds: Any = None,
        position_ids: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        only_first: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, dim)`, and what is asked for besides.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            inputs_embeds: `(batch, length, dim)`, vectors instead of `input_ids`.
            position_ids: `(batch, length)` or `(1, length)`; unless given, places are counted from 0, padding too.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            only_first: give the state of each row's first real token only, `(batch, 1, dim)`.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, or too long an input.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        most = self.config.max_position_embeddings
        inputs = self._choose_inputs(input_ids, inputs_embeds, most=most, width=self.config.dim)
        positions = ops.arange(ops.shape(inputs)[1])[None] if position_ids is None else position_ids
        x, real = self.embeddings(inputs, positions), attention_mask
        narrow = only_first and not keep_states and not keep_weights
        states, weights = self.transformer(x, real, only_first=narrow)
        x = states[-1] if narrow or not only_first else take_firsts(states[-1], real)
        output = BaseModelOutput(
            last_hidden_state=x if only_first else fill_padding(x, real),
            hidden_states=tuple(fill_padding(state, real) for state in states) if keep_states else None,
            attentions=tuple(weights) if keep_weights else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class TFDistilBertForMaskedLM(TFDistilBertPreTrainedModel):
    """Scores the vocabulary at every place."""

    _tied_weights_keys = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.distilbert = TFDistilBertModel(config)
        self.vocab_transform = linear(config, config.dim)
        self.vocab_layer_norm = LayerNormalization(epsilon=1e-12)
        tied = self.distilbert.embeddings.word_embeddings if config.tie_word_embeddings else None
        self.vocab_projector = VocabularyScores(config.vocab_size, tied, stddev=config.initializer_range)
        self.activation = TF_ACT2FN[config.activation]

    def call(self, input_ids: Any = None, attention_mask: Any = None, *, labels: Any = None, **options: Any) -> Any:
        """Give logits `(batch, length, vocab_size)`; the loss of `labels`, `(batch, length)`, leaves out -100."""
        output = self._encode(input_ids, attention_mask, options)
        x = self.vocab_layer_norm(self.activation(self.vocab_transform(output.last_hidden_state)))
        logits = self.vocab_projector(x)
        loss = None if labels is None else compute_token_loss(logits, fill_padding(labels, attention_mask, fill=-100))
        return self._make_output(MaskedLMOutput, output, options, loss, fill_padding(logits, attention_mask))


class TFDistilBertForTokenClassification(TFDistilBertPreTrainedModel):
    """Tells of every token which class it is of."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.distilbert = TFDistilBertModel(config)
        self.dropout = Dropout(config.dropout)
        self.classifier = linear(config, config.num_labels)

    def call(self, input_ids: Any = None, attention_mask: Any = None, *, labels: Any = None, **options: Any) -> Any:
        """Give logits `(batch, length, num_labels)`; the loss of `labels`, `(batch, length)`, leaves out -100."""
        output = self._encode(input_ids, attention_mask, options)
        logits = self.classifier(self.dropout(output.last_hidden_state))
        loss = None if labels is None else compute_token_loss(logits, fill_padding(labels, attention_mask, fill=-100))
        return self._make_output(TokenClassifierOutput, output, options, loss, fill_padding(logits, attention_mask))


class TFDistilBertForQuestionAnswering(TFDistilBertPreTrainedModel):
    """Finds where in a text the answer begins and ends."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.distilbert = TFDistilBertModel(config)
        self.qa_outputs = linear(config, 2)
        self.dropout = Dropout(config.qa_dropout)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        start_positions: Any = None,
        end_positions: Any = None,
        **options: Any,
    ) -> Any:
        """Give two logits `(batch, length)`, the lowest number at padding; positions are `(batch,)`."""
        output = self._encode(input_ids, attention_mask, options)
        logits = self.qa_outputs(self.dropout(output.last_hidden_state))  # (batch, length, 2)
        start, end = ops.unstack(fill_padding(logits, attention_mask, fill=lowest(logits)), 2, axis=-1)
        loss = compute_span_loss((start, end), (start_positions, end_positions), attention_mask)
        return self._make_output(QuestionAnsweringModelOutput, output, options, loss, start, end)


class _ReadsFirst(TFDistilBertPreTrainedModel):
    """A head that reads each row's first token."""

    def __init__(self, config: DistilBertConfig, outputs: int) -> None:
        super().__init__(config)
        self.distilbert = TFDistilBertModel(config)
        self.pre_classifier, self.classifier = linear(config, config.dim), linear(config, outputs)
        self.dropout = Dropout(config.seq_classif_dropout)

    def _score(self, first: Any) -> Any:
        return self.classifier(self.dropout(ops.relu(self.pre_classifier(first))))  # (batch, outputs)


class TFDistilBertForSequenceClassification(_ReadsFirst):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config, config.num_labels)

    def call(self, input_ids: Any = None, attention_mask: Any = None, *, labels: Any = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self._encode(input_ids, attention_mask, options, only_first=True)
        logits, kind = self._score(output.last_hidden_state[:, 0]), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(SequenceClassifierOutput, output, options, loss, logits)


class TFDistilBertForMultipleChoice(_ReadsFirst):
    """Tells which of several texts fits best; its inputs are `(batch, choices, length)`."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config, 1)

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"input_ids": np.arange(24, dtype=np.int32).reshape(2, 3, 4) % self.config.vocab_size}

    def call(self, input_ids: Any = None, attention_mask: Any = None, *, labels: Any = None, **options: Any) -> Any:
        """Give logits `(batch, choices)`; `labels` are `(batch,)`."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **options}
        tensors = {name: x for name, x in given.items() if hasattr(x, "shape")}
        flat = {name: ops.reshape(x, (-1, *ops.shape(x)[2:])) for name, x in tensors.items()}
        flat = {**given, **flat}
        output = self._encode(flat.pop("input_ids"), flat.pop("attention_mask"), flat, only_first=True)
        shape = ops.shape(next(iter(tensors.values())))
        logits = ops.reshape(self._score(output.last_hidden_state[:, 0]), shape[:2])
        loss = None if labels is None else compute_token_loss(logits, labels)
        return self._make_output(MultipleChoiceModelOutput, output, options, loss, logits)
