"""Outputs of models with an encoder and a decoder; fields in Transformers' order."""

from typing import Any

from maquette.modeling.outputs import ModelOutput

States = tuple[Any, ...] | None


class Seq2SeqModelOutput(ModelOutput):
    """The states of an encoder and of the decoder that looks at it."""

    last_hidden_state: Any = None
    past_key_values: Any = None
    decoder_hidden_states: States = None
    decoder_attentions: States = None
    cross_attentions: States = None
    encoder_last_hidden_state: Any = None
    encoder_hidden_states: States = None
    encoder_attentions: States = None


class _HeadOutput(ModelOutput):
    loss: Any = None
    logits: Any = None
    past_key_values: Any = None
    decoder_hidden_states: States = None
    decoder_attentions: States = None
    cross_attentions: States = None
    encoder_last_hidden_state: Any = None
    encoder_hidden_states: States = None
    encoder_attentions: States = None


class Seq2SeqLMOutput(_HeadOutput):
    """Scores of the next token, from an encoder and a decoder."""


class Seq2SeqSequenceClassifierOutput(_HeadOutput):
    """Scores of every class for the whole input, from an encoder and a decoder."""


class Seq2SeqQuestionAnsweringModelOutput(ModelOutput):
    """Scores of every place as the first and the last of an answer, from an encoder and a decoder."""

    loss: Any = None
    start_logits: Any = None
    end_logits: Any = None
    past_key_values: Any = None
    decoder_hidden_states: States = None
    decoder_attentions: States = None
    cross_attentions: States = None
    encoder_last_hidden_state: Any = None
    encoder_hidden_states: States = None
    encoder_attentions: States = None


class GenerateEncoderDecoderOutput(ModelOutput):
    """What `generate` gives back on request.

    Attributes:
        sequences: `(rows, length)`, what the decoder began with and new tokens.
        scores: for each new token the scores it was chosen by, `(rows, vocabulary)`.
        logits: for each new token what the model gave, `(rows, vocabulary)`.
        encoder_attentions, encoder_hidden_states, decoder_attentions, cross_attentions, decoder_hidden_states: for
            each step those of the forward.
        past_key_values: the cache, in which each row has its slot.
    """

    sequences: Any = None
    scores: Any = None
    logits: Any = None
    encoder_attentions: Any = None
    encoder_hidden_states: Any = None
    decoder_attentions: Any = None
    cross_attentions: Any = None
    decoder_hidden_states: Any = None
    past_key_values: Any = None


class GenerateBeamEncoderDecoderOutput(ModelOutput):
    """What `generate` gives back on request, with beams.

    Attributes:
        sequences: `(rows, length)`, what the decoder began with and new tokens.
        sequences_scores: `(rows,)`, the sum of log-probabilities, divided by the length penalty.
        scores: for each step `(prompts · beams, vocabulary)`, log-probabilities.
        logits: for each step `(prompts · beams, vocabulary)`, what the model gave.
        beam_indices: `(rows, new tokens)`, the beam in which each token was chosen; -1 at padding.
        encoder_attentions, encoder_hidden_states, decoder_attentions, cross_attentions, decoder_hidden_states: for
            each step those of the forward.
        past_key_values: the cache.
    """

    sequences: Any = None
    sequences_scores: Any = None
    scores: Any = None
    logits: Any = None
    beam_indices: Any = None
    encoder_attentions: Any = None
    encoder_hidden_states: Any = None
    decoder_attentions: Any = None
    cross_attentions: Any = None
    decoder_hidden_states: Any = None
    past_key_values: Any = None
