"""Heads for any base model: a class of two lines makes one, with our losses, labels and packing.

    class SketchForTokenClassification(GenericForTokenClassification, SketchPreTrainedModel):
        base_model_class = SketchModel

The base model may give its states in any form: as they are laid out, which leaves padding out of the computation, as an
output or a dictionary with `last_hidden_state`, as a tuple, or as a tensor.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from maquette.errors import ConfigurationError
from maquette.modeling.decoders import (
    LaidOutDecoderOutput,
    QuestionAnsweringHead,
    SequenceClassificationHead,
    TokenClassificationHead,
    take_last,
)
from maquette.modeling.losses import compute_classification_loss
from maquette.modeling.outputs import ImageClassifierOutput
from maquette.modeling.packing import lay_out
from maquette.modeling.torch import PreTrainedModel

Opt = Tensor | None
WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embed_dim")
FORMS = ("return_dict", "use_cache")  # a base model that has no choice of them is not told


class GenericHead(PreTrainedModel):
    """What heads for any base model share.

    Class attributes:
        base_model_class: what is under the head, made from the configuration; unless given, what `AutoModel` makes.
        base_model_prefix: its name in the head and in files; unless given, that of the classes around, or "model".
        pooling: of heads for whole inputs: "last" and "first" take the state of a row's last or first real token,
            "mean" the mean of all real ones, "pooled" what the base model calls `pooler_output`.
    """

    base_model: Any
    base_model_class: ClassVar[Any] = None
    pooling: ClassVar[str] = "last"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        base = cls.base_model_class
        if cls.config_class is None and base is not None:
            cls.config_class = base.config_class
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__:
            return
        if base is not None and "main_input_name" not in vars(cls):
            cls.main_input_name = base.main_input_name
        own = (vars(each).get("base_model_prefix") for each in cls.__mro__ if each.__module__ != __name__)
        cls.base_model_prefix = next(filter(None, own), None) or getattr(base, "base_model_prefix", "") or "model"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        setattr(self, self.base_model_prefix, self._choose_base(config))
        self._add_head(config)

    def _choose_base(self, config: Any) -> Any:
        if self.base_model_class is not None:
            return self.base_model_class(config)
        if (make := getattr(self, "_make_base", None)) is not None:
            return make(config)
        from maquette import AutoModel

        auto: Any = AutoModel
        return auto.from_config(config)

    def _add_head(self, config: Any) -> None:
        """Add the head's layers."""
        raise NotImplementedError

    def _init_weights(self, module: nn.Module) -> None:
        self.base_model._init_weights(module)

    @property
    def dummy_inputs(self) -> Any:
        return self.base_model.dummy_inputs

    @property
    def head_width(self) -> int:
        """How many numbers a state of the base model has; override it where the configuration has no usual name for it.

        Raises:
            ConfigurationError: it has none.
        """
        if (found := find_width(self.config)) is None:
            raise ConfigurationError(
                f"{type(self).__name__}: {type(self.config).__name__} has none of {', '.join(WIDTHS)}, so it is "
                "not known how wide states are: override the head's property head_width, or give the configuration an "
                "alias."
            )
        return found

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run the base model for a head; gives states in a layout, whatever the model gives."""
        kind: Any = type(self.base_model)
        names = _parameters(kind)
        given = {name: value for name, value in options.items() if name not in FORMS or name in names}
        given |= {name: True for name in ("return_dict", "as_laid_out") if name in names}
        if attention_mask is not None and "attention_mask" in names:
            given["attention_mask"] = attention_mask
        output = self.base_model(*(() if input_ids is None else (input_ids,)), **given)
        fields: Mapping[str, Any] = output if isinstance(output, Mapping) else {}
        if fields.get("layout") is not None:
            return output
        states = _find_states(output)
        if not isinstance(states, Tensor) or states.ndim not in (3, 4):
            raise ValueError(
                f"{type(self.base_model).__name__} gives {_describe(states)} first, where {type(self).__name__} takes "
                "states (batch, length, width): return them first, or as last_hidden_state."
            )
        states = (
            states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
        )  # maps, whose places follow each other
        mask = None if attention_mask is None else attention_mask[:, -states.shape[1] :]
        kept = {name: fields.get(name) for name in ("past_key_values", "hidden_states", "attentions")}
        result = LaidOutDecoderOutput(last_hidden_state=states, layout=lay_out(states, mask, packed=False), **kept)
        if fields.get("pooler_output") is not None:
            result["pooler_output"] = fields["pooler_output"]
        return result

    def _pool_rows(self, output: Any) -> Tensor:
        """Make one vector of each row, `(batch, width)`, as `pooling` says."""
        x, layout = output.last_hidden_state, output.layout
        if self.pooling == "last":
            return take_last(x, layout)
        if self.pooling == "first":
            return layout.firsts().scatter(layout.take_firsts(x))[:, 0]
        if self.pooling == "mean":
            counts = layout.shape[1] if layout.mask is None else layout.mask.sum(1, keepdim=True).clamp(min=1)
            return layout.scatter(x).sum(1) / counts
        return _find_pooled(self, output)


def _find_pooled(head: GenericHead, output: Any) -> Tensor:
    pooled = output.get("pooler_output") if head.pooling == "pooled" else None
    if pooled is None:
        raise ConfigurationError(
            f'{type(head).__name__}.pooling = {head.pooling!r}: it is "last", "first" or "mean", or "pooled" where the '
            f"base model gives pooler_output, and {type(head.base_model).__name__} gives {', '.join(output)}."
        )
    return pooled.flatten(1)


def _find_states(output: Any) -> Any:
    """Find a base model's states in whatever it gives."""
    if isinstance(output, Mapping):
        return output.get("last_hidden_state", next(iter(output.values()), None))
    return output[0] if isinstance(output, tuple | list) and output else output


def _describe(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


@functools.cache
def _parameters(kind: Any) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


class GenericForSequenceClassification(SequenceClassificationHead, GenericHead):
    """Tells which class, or classes, a text is of, or the numbers that belong to it, with `score`."""

    def _add_head(self, config: Any) -> None:
        self.score = nn.Linear(self.head_width, config.num_labels, bias=False)

    def _find_padding(self, input_ids: Opt) -> Opt:
        return super()._find_padding(input_ids) if self.pooling == "last" else None

    def _pool(self, output: Any) -> Tensor:
        return self._pool_rows(output)


class GenericForTokenClassification(TokenClassificationHead, GenericHead):
    """Tells of every token which class it is of, with `score`."""

    def _add_head(self, config: Any) -> None:
        self.dropout = nn.Dropout(find_dropout(config))
        self.score = nn.Linear(self.head_width, config.num_labels)


class GenericForQuestionAnswering(QuestionAnsweringHead, GenericHead):
    """Finds where in a text the answer begins and ends, with `qa_outputs`."""

    def _add_head(self, config: Any) -> None:
        self.qa_outputs = nn.Linear(self.head_width, 2)


class GenericForImageClassification(GenericHead):
    """Tells which class, or classes, an image is of, or the numbers that belong to it, with `classifier`.

    The base model gives states `(batch, places, width)`, or maps `(batch, width, height, width of the map)`, of which
    the mean is taken unless `pooling` says otherwise.
    """

    main_input_name = "pixel_values"
    pooling = "mean"

    def _add_head(self, config: Any) -> None:
        self.classifier = nn.Linear(self.head_width, config.num_labels)

    def forward(self, pixel_values: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self._run_base(pixel_values, None, options)
        logits, kind = self.classifier(self._pool_rows(output)), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(ImageClassifierOutput, output, options, loss, logits)


def find_dropout(config: Any) -> float:
    """Give the share of states to drop before a classifier, as configurations call it."""
    names = ("classifier_dropout", "hidden_dropout")
    found = (config.get(name) for name in names)
    return next((float(each) for each in found if each is not None), 0.1)


def find_width(config: Any) -> int | None:
    """Give the width of a model's states, as configurations call it; None where none of the usual names is there."""
    return next((found for name in WIDTHS if isinstance(found := getattr(config, name, None), int)), None)
