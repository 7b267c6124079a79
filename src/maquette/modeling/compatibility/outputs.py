"""Outputs of models that read on where they stopped, or read another model's states; fields in Transformers' order."""

from typing import Any

from maquette.modeling.outputs import ModelOutput

States = tuple[Any, ...] | None


class BaseModelOutputWithCrossAttentions(ModelOutput):
    """The last states of a model that looks at another's."""

    last_hidden_state: Any = None
    hidden_states: States = None
    attentions: States = None
    cross_attentions: States = None


class BaseModelOutputWithPastAndCrossAttentions(ModelOutput):
    """The last states of a decoder that looks at another model's."""

    last_hidden_state: Any = None
    past_key_values: Any = None
    hidden_states: States = None
    attentions: States = None
    cross_attentions: States = None


class BaseModelOutputWithPoolingAndCrossAttentions(ModelOutput):
    """The last states with one vector for the whole input."""

    last_hidden_state: Any = None
    pooler_output: Any = None
    hidden_states: States = None
    past_key_values: Any = None
    attentions: States = None
    cross_attentions: States = None


class CausalLMOutputWithCrossAttentions(ModelOutput):
    """Scores of the next token, from a decoder that looks at another model's states."""

    loss: Any = None
    logits: Any = None
    past_key_values: Any = None
    hidden_states: States = None
    attentions: States = None
    cross_attentions: States = None


class NextSentencePredictorOutput(ModelOutput):
    """Scores of whether one text follows another."""

    loss: Any = None
    logits: Any = None
    hidden_states: States = None
    attentions: States = None


class SemanticSegmenterOutput(ModelOutput):
    """Scores of classes for every place of an image."""

    loss: Any = None
    logits: Any = None
    hidden_states: States = None
    attentions: States = None


class DepthEstimatorOutput(ModelOutput):
    """The depth of every place of an image."""

    loss: Any = None
    predicted_depth: Any = None
    hidden_states: States = None
    attentions: States = None
