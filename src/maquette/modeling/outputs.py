"""What models return: named values that are also a tuple and a mapping, the same in every framework."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from types import GeneratorType
from typing import Any, ClassVar, dataclass_transform

_watchers: list[Callable[[type["ModelOutput"]], None]] = []
_classes: list[type["ModelOutput"]] = []


def watch_outputs(register: Callable[[type["ModelOutput"]], None]) -> None:
    """Have `register` called for every output class, those that exist and those to come (for a framework's pytrees)."""
    _watchers.append(register)
    for cls in _classes:
        register(cls)


@dataclass_transform()
class ModelOutput(Mapping[str, Any]):
    """Base of what models return: `output.logits`, `output["logits"]` and `output[0]` are the same value.

    Subclass it with annotated fields; no decorator is needed. A field that is None counts as absent: it is no key and
    has no place in the tuple.
    """

    _names: ClassVar[tuple[str, ...]] = ()
    __supported_by_tf_nest__ = True

    def __post_init__(self) -> None:
        first = getattr(self, self._names[0], None) if self._names else None
        if isinstance(first, GeneratorType):  # how TensorFlow makes a mapping like another: from pairs
            self.__dict__.update({**dict.fromkeys(self._names), **dict(first)})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(eq=False)(cls)
        cls._names = tuple(f.name for f in dataclasses.fields(cls))  # type: ignore[arg-type]
        _classes.append(cls)
        for register in _watchers:
            register(cls)

    def to_tuple(self) -> tuple[Any, ...]:
        """Give the values that are not None, in the order of the fields."""
        return tuple(value for name in self._names if (value := getattr(self, name)) is not None)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            value = getattr(self, key) if key in self._names else None
            if value is None:
                raise KeyError(key)
            return value
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if getattr(self, name) is not None)

    def __len__(self) -> int:
        return len(self.to_tuple())


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
