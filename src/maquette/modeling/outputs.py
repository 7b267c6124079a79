"""What models return: dictionaries whose keys are attributes and places too, the same in every framework."""

import copy
import dataclasses
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import MISSING
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

from maquette.batch.tensors import add_container
from maquette.batch.view import show_output
from maquette.errors import MissingAttributeError, did_you_mean


class _Field:
    """Makes a key of an output an attribute as well, None where the key is absent."""

    def __init__(self, name: str, default: Any) -> None:
        self.name, self.default = name, default

    def __get__(self, output: Any, owner: type) -> Any:
        if output is not None:
            return dict.get(output, self.name)
        if self.default is MISSING:
            raise AttributeError(self.name)
        return self.default  # which a second `@dataclass` on the class reads

    def __set__(self, output: Any, value: Any) -> None:
        output[self.name] = value


@dataclass_transform()
class ModelOutput(dict[str, Any]):
    """Base of what models return: `output.logits`, `output["logits"]` and `output[0]` are the same value.

    Subclass it with annotated fields; no decorator is needed. A field that is None counts as absent: it is no key and
    has no place in the tuple. Other keys may be added, and come after the fields. `type(output)(mapping)` takes the
    values of a mapping, or of pairs: so libraries rebuild an output whose tensors they moved or cast.
    """

    _names: ClassVar[tuple[str, ...]] = ()
    _fields: ClassVar[tuple[tuple[str, Any, Any], ...]] = ()  # name, default, default_factory
    __supported_by_tf_nest__ = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            cls.__init__ = ModelOutput.__init__  # type: ignore[method-assign] # before a dataclass writes another one
        dataclasses.dataclass(eq=False)(cls)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        cls._names = tuple(field.name for field in fields)
        cls._fields = tuple((field.name, field.default, field.default_factory) for field in fields)
        cls.__signature__ = _sign(fields)  # type: ignore[attr-defined]
        for name, default, _ in cls._fields:
            setattr(cls, name, _Field(name, default))
        add_container(cls)

    def __init__(self, *values: Any, **named: Any) -> None:
        pairs = _as_pairs(values[0]) if len(values) == 1 and not named else None
        if pairs is not None or not self._names:
            self.update(pairs or (), **named)
        elif values or named:
            self._fill(values, named)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Override to check or complete a fresh output."""

    def _fill(self, values: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = dict(zip(self._names, values, strict=False))
        wrong = [name for name in named if name in given or name not in self._names]
        if wrong or len(values) > len(self._names):
            raise TypeError(_refuse(type(self), wrong, len(values)))
        given.update(named)
        for name, default, make in self._fields:
            if name in given:
                value = given[name]
            elif default is not MISSING:
                value = default
            elif make is not MISSING:
                value = make()
            else:
                raise TypeError(f"{type(self).__name__}: {name!r} is missing.")
            if value is not None:
                dict.__setitem__(self, name, value)

    @classmethod
    def _rebuild(cls, names: Iterable[str], values: Iterable[Any]) -> Self:
        """Make an output of what a framework's pytrees put in the place of its values, be it None."""
        output = cls.__new__(cls)
        dict.update(output, zip(names, values, strict=True))
        return output

    # Reading ---------------------------------------------------------------------------------------------------

    def to_tuple(self) -> tuple[Any, ...]:
        """Give the values that are not None, in the order of the fields."""
        return tuple(dict.values(self))

    def __getitem__(self, key: Any) -> Any:
        return dict.__getitem__(self, key) if isinstance(key, str) else self.to_tuple()[key]

    if not TYPE_CHECKING:  # which should know the fields only

        def __getattr__(self, name: str) -> Any:
            if name in self:
                return dict.__getitem__(self, name)
            kind, known = type(self).__name__, (*self._names, *self)
            raise MissingAttributeError(lambda: f"{kind} has no {name!r}.{did_you_mean(name, known)}")

    _repr_html_ = show_output

    # Writing ---------------------------------------------------------------------------------------------------

    def __setitem__(self, key: str, value: Any) -> None:
        place = self._names.index(key) if key in self._names else len(self._names)
        if value is None and place < len(self._names):
            dict.pop(self, key, None)
        elif key in self:
            dict.__setitem__(self, key, value)
        else:
            later = [name for name in dict.keys(self) if name not in self._names[:place]]
            dict.__setitem__(self, key, value)
            for name in later if place < len(self._names) else ():  # keep the order of the fields
                dict.__setitem__(self, name, dict.pop(self, name))

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc,override]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self.get(key)

    def copy(self) -> Self:
        return copy.copy(self)


def _as_pairs(value: Any) -> Iterable[tuple[str, Any]] | None:
    """Give what an output is to be made of; None where it is a value itself, such as a tensor."""
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, Iterator | ItemsView):
        return value
    pairs = isinstance(value, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in value
    )
    return value if pairs and value else None  # type: ignore[return-value]


def _sign(fields: Iterable[dataclasses.Field[Any]]) -> Signature:
    """Describe the constructor that takes a value for every field."""
    parameters = []
    for field in fields:
        default = Parameter.empty if field.default is MISSING else field.default
        default = default if field.default_factory is MISSING else None
        parameters.append(Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=field.type))
    return Signature(parameters)


def _refuse(cls: type[ModelOutput], wrong: list[str], count: int) -> str:
    """Say what is wrong with the arguments of a constructor."""
    known = f"its fields are {', '.join(cls._names)}"
    if not wrong:
        return f"{cls.__name__}: {count} values were given, but {known}."
    twice = f"{wrong[0]!r} is given twice" if wrong[0] in cls._names else f"there is no {wrong[0]!r}"
    return f"{cls.__name__}: {twice}; {known}.{did_you_mean(wrong[0], set(cls._names) - {wrong[0]})}"


class BaseModelOutput(ModelOutput):
    """The last layer's states, and on request those of every layer and the attention weights."""

    last_hidden_state: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class BaseModelOutputWithPooling(ModelOutput):
    """The last layer's states with one vector for the whole input."""

    last_hidden_state: Any = None
    pooler_output: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class BaseModelOutputWithNoAttention(ModelOutput):
    """The last layer's states of a model without attention."""

    last_hidden_state: Any = None
    hidden_states: tuple[Any, ...] | None = None


class BaseModelOutputWithPoolingAndNoAttention(ModelOutput):
    """The last layer's states and one vector for the whole input, of a model without attention."""

    last_hidden_state: Any = None
    pooler_output: Any = None
    hidden_states: tuple[Any, ...] | None = None


class _HeadOutput(ModelOutput):
    loss: Any = None
    logits: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class MaskedLMOutput(_HeadOutput):
    """Scores of every vocabulary entry at every place, and the loss where labels were given."""


class SequenceClassifierOutput(_HeadOutput):
    """Scores of every class for the whole input, and the loss where labels were given."""


class TokenClassifierOutput(_HeadOutput):
    """Scores of every class at every place, and the loss where labels were given."""


class MultipleChoiceModelOutput(_HeadOutput):
    """A score for every choice, and the loss where labels were given."""


class ImageClassifierOutput(_HeadOutput):
    """Scores of every class for the image, and the loss where labels were given."""


class CausalLMOutput(_HeadOutput):
    """Scores of every vocabulary entry for the next place, and the loss where labels were given."""


class BaseModelOutputWithPast(ModelOutput):
    """States of a decoder, with the cache that goes on from there."""

    last_hidden_state: Any = None
    past_key_values: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class _HeadOutputWithPast(ModelOutput):
    loss: Any = None
    logits: Any = None
    past_key_values: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class CausalLMOutputWithPast(_HeadOutputWithPast):
    """Scores of the vocabulary for every next token, with the cache, and the loss where labels were given."""


class SequenceClassifierOutputWithPast(_HeadOutputWithPast):
    """Scores of every class, with the cache, and the loss where labels were given."""


class MoeModelOutputWithPast(BaseModelOutputWithPast):
    """States of a decoder with experts; `router_logits` are `(tokens, experts)` for each layer that has some."""

    router_logits: tuple[Any, ...] | None = None


class MoeCausalLMOutputWithPast(ModelOutput):
    """Scores of the vocabulary for every next token; `aux_loss` is what spreads tokens over experts."""

    loss: Any = None
    aux_loss: Any = None
    logits: Any = None
    past_key_values: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    router_logits: tuple[Any, ...] | None = None


class ImageClassifierOutputWithNoAttention(ModelOutput):
    """Scores of every class for the image, of a model without attention."""

    loss: Any = None
    logits: Any = None
    hidden_states: tuple[Any, ...] | None = None


class QuestionAnsweringModelOutput(ModelOutput):
    """Scores of every place for being the answer's first and last, and the loss where positions were given."""

    loss: Any = None
    start_logits: Any = None
    end_logits: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class MaskedImageModelingOutput(ModelOutput):
    """The reconstructed image, and the loss where it was said which patches are masked."""

    loss: Any = None
    reconstruction: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class BackboneOutput(ModelOutput):
    """Feature maps of the stages that were asked for, the finest first."""

    feature_maps: tuple[Any, ...] | None = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class Wav2Vec2BaseModelOutput(ModelOutput):
    """The last layer's states, with what the convolutions heard."""

    last_hidden_state: Any = None
    extract_features: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class XVectorOutput(ModelOutput):
    """Scores of every speaker, and the vector that stands for the voice."""

    loss: Any = None
    logits: Any = None
    embeddings: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class Wav2Vec2ForPreTrainingOutput(ModelOutput):
    """What is compared in pre-training, and the losses where negatives were given."""

    loss: Any = None
    projected_states: Any = None
    projected_quantized_states: Any = None
    codevector_perplexity: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    contrastive_loss: Any = None
    diversity_loss: Any = None


class GenerateDecoderOnlyOutput(ModelOutput):
    """What `generate` gives back on request.

    Attributes:
        sequences: `(rows, length)`, prompts and new tokens.
        scores: for each new token the scores it was chosen by, `(rows, vocabulary)`.
        logits: for each new token what the model gave, `(rows, vocabulary)`.
        attentions, hidden_states: for each step those of the forward.
        past_key_values: the cache, in which each row has its slot.
    """

    sequences: Any = None
    scores: Any = None
    logits: Any = None
    attentions: Any = None
    hidden_states: Any = None
    past_key_values: Any = None


class GenerateBeamDecoderOnlyOutput(ModelOutput):
    """What `generate` gives back on request, with beams.

    Attributes:
        sequences: `(rows, length)`, prompts and new tokens.
        sequences_scores: `(rows,)`, the sum of log-probabilities, divided by the length penalty.
        scores: for each step `(prompts · beams, vocabulary)`, log-probabilities.
        logits: for each step `(prompts · beams, vocabulary)`, what the model gave.
        beam_indices: `(rows, new tokens)`, the beam in which each token was chosen; -1 at padding.
        attentions, hidden_states: for each step those of the forward.
        past_key_values: the cache.
    """

    sequences: Any = None
    sequences_scores: Any = None
    scores: Any = None
    logits: Any = None
    beam_indices: Any = None
    attentions: Any = None
    hidden_states: Any = None
    past_key_values: Any = None
