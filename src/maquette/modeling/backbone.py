"""Backbones: models that give feature maps of several stages for other models to build on. No framework is imported.

A backbone is two classes: a configuration that derives from `BackboneConfigMixin` and says what its stages are called,
and a model that derives from `BackboneMixin` and says how many channels each stage has.
"""

import contextlib
import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from maquette.configuration import PretrainedConfig
from maquette.errors import ConfigurationError, bullets, did_you_mean
from maquette.modeling.outputs import BackboneOutput

CHOICES = ("out_features", "out_indices")


def match_stages(
    stage_names: Sequence[str], out_features: list[str] | None, *, out_indices: list[int] | None
) -> tuple[list[str], list[int]]:
    """Give the chosen stages by name and by place, whichever of the two they were chosen by; the last unless chosen.

    Args:
        stage_names: all stages, the finest first.
        out_features: names, in that order.
        out_indices: places, in that order; negative ones count from the end, and stay negative.

    Raises:
        ConfigurationError: listing unknown stages with the nearest names, stages chosen twice or out of order, and a
            disagreement between names and places.
    """
    count = len(stage_names)
    if out_features is None and out_indices is None:
        return [stage_names[-1]], [count - 1]
    named = None if out_features is None else _find_names(stage_names, out_features)
    placed = None if out_indices is None else _find_places(stage_names, out_indices)
    if named is not None and placed is not None and named != placed:
        raise ConfigurationError(
            f"out_features={out_features} and out_indices={out_indices} choose different stages of "
            f"{', '.join(stage_names)}. Give one of the two; the other follows."
        )
    places = named if placed is None else placed
    assert places is not None
    return [stage_names[place] for place in places], places if out_indices is None else list(out_indices)


def _find_names(stage_names: Sequence[str], names: list[str]) -> list[int]:
    wrong = [f"{name!r} is no stage.{did_you_mean(name, stage_names)}" for name in names if name not in stage_names]
    _refuse(wrong, f"out_features={names}", stage_names)
    return _in_order([stage_names.index(name) for name in names], f"out_features={names}", stage_names)


def _find_places(stage_names: Sequence[str], places: list[int]) -> list[int]:
    count = len(stage_names)
    wrong = [f"{place} is outside {-count} to {count - 1}." for place in places if not -count <= place < count]
    _refuse(wrong, f"out_indices={places}", stage_names)
    return _in_order([place % count for place in places], f"out_indices={places}", stage_names)


def _in_order(places: list[int], given: str, stage_names: Sequence[str]) -> list[int]:
    wrong = [] if places else ["No stage is chosen; leave it None for the last one."]
    wrong += [f"{stage_names[p]!r} is chosen twice." for p in sorted(set(places)) if places.count(p) > 1]
    if not wrong and places != sorted(places):
        right = ", ".join(repr(stage_names[place]) for place in sorted(places))
        wrong = [f"Stages are chosen in the order of the model: {right}."]
    _refuse(wrong, given, stage_names)
    return places


def _refuse(wrong: list[str], given: str, stage_names: Sequence[str]) -> None:
    if wrong:
        raise ConfigurationError(f"{given}, where stages are {', '.join(stage_names)}:{bullets(wrong)}")


class BackboneConfigMixin(PretrainedConfig):
    """Lets a configuration choose stages by name (`out_features`) or by place (`out_indices`); the other one follows.

    Derive from it and define `stage_names`, as a property that follows from the fields. Assigning either choice sets
    both, and so does overriding one while reading a file that holds both.
    """

    out_features: list[str] | None = None
    out_indices: list[int] | None = None

    def validate(self) -> None:
        self._settle(self.out_features, self.out_indices)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_making" in self.__dict__ or name.startswith("_"):
            super().__setattr__(name, value)
        elif name in CHOICES:
            kept = self.__dict__[name]
            super().__setattr__(name, value)
            chosen, self.__dict__[name] = self.__dict__[name], kept
            self._settle(**dict.fromkeys(CHOICES) | {name: chosen})
        else:
            is_last = self._chooses_last()
            super().__setattr__(name, value)
            if is_last:
                self._settle(None, None)

    def _chooses_last(self) -> bool:
        """Tell whether the choice is what it is where nobody chooses, so that it follows a change of the stages."""
        return bool(self.out_features == [self.stage_names[-1]] and self.out_indices != [-1])

    def _settle(self, out_features: list[str] | None, out_indices: list[int] | None) -> None:
        names = getattr(self, "stage_names", None)
        if not names:
            raise TypeError(f"{type(self).__name__} does not say what its stages are called: define `stage_names`.")
        self.__dict__.update(zip(CHOICES, match_stages(names, out_features, out_indices=out_indices), strict=True))

    def choose_stages(self, *, out_features: list[str] | None = None, out_indices: list[int] | None = None) -> None:
        """Choose the stages by name, by place, or by both if these agree; by neither, leave them as they are."""
        if out_features is not None and out_indices is not None:
            self._settle(list(out_features), list(out_indices))
        elif out_features is not None:
            self.out_features = out_features
        elif out_indices is not None:
            self.out_indices = out_indices

    @classmethod
    def _read(cls, content: dict[str, Any], overrides: dict[str, Any], place: str, return_unused: bool) -> Any:
        """Leave out of a file what an override replaces, and what follows from its other fields."""
        content = {n: value for n, value in content.items() if n != "stage_names" or n in cls._schema()}
        if overrides and (overrides.keys() & set(CHOICES) or cls._is_indifferent(content)):
            content = {name: value for name, value in content.items() if name not in CHOICES}
        return super()._read(content, overrides, place, return_unused)

    @classmethod
    def _is_indifferent(cls, content: dict[str, Any]) -> bool:
        with contextlib.suppress(ConfigurationError):  # which overrides may fix
            return bool(super()._read(content, {}, "", False)._chooses_last())
        return False


class BackboneMixin:
    """Makes a model a backbone: put it before `PreTrainedModel`, set `num_features`, and end `forward` in `give_maps`.

    (In Keras, that is `call` of a `TFPreTrainedModel`, in Flax `__call__` of a `FlaxPreTrainedModel`.)

        class SketchBackbone(BackboneMixin, PreTrainedModel):
            config_class = SketchConfig  # derives from BackboneConfigMixin

            def __init__(self, config):
                super().__init__(config)
                self.num_features = [config.dim] * len(config.stage_names)  # channels of every stage

            def forward(self, pixel_values, *, output_hidden_states=None, return_dict=None):
                states = ...  # a tensor for every stage
                return self.give_maps(states, output_hidden_states=output_hidden_states, return_dict=return_dict)

    `config.stage_names` names the stages, the finest first; `config.out_features` those whose maps are given.
    """

    config: Any
    num_features: list[int]

    @property
    def stage_names(self) -> list[str]:
        """What all stages are called, the finest first."""
        return list(self.config.stage_names)

    @property
    def out_features(self) -> list[str]:
        """The stages whose feature maps are given; assign other ones at any time."""
        return list(self.config.out_features)

    @out_features.setter
    def out_features(self, value: list[str]) -> None:
        self.config.out_features = value

    @property
    def out_indices(self) -> list[int]:
        """The same stages by their places in `stage_names`; assign other ones at any time."""
        return list(self.config.out_indices)

    @out_indices.setter
    def out_indices(self, value: list[int]) -> None:
        self.config.out_indices = value

    @property
    def out_feature_channels(self) -> dict[str, int]:
        """The channels of every stage, chosen or not."""
        return dict(zip(self.stage_names, self.num_features, strict=True))

    @property
    def channels(self) -> list[int]:
        """The channels of each feature map that is given."""
        return [self.out_feature_channels[name] for name in self.out_features]

    @classmethod
    def from_config(
        cls,
        config: Any,
        *,
        out_features: list[str] | None = None,
        out_indices: list[int] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Build a backbone with fresh weights; stages chosen here are chosen in a copy of the configuration."""
        if out_features is not None or out_indices is not None:
            config = copy.deepcopy(config)
            config.choose_stages(out_features=out_features, out_indices=out_indices)
        return super().from_config(config, **kwargs)  # type: ignore[misc]

    _from_config = from_config

    def give_maps(
        self,
        states: Sequence[Any],
        *,
        finish: Callable[[str, Any], Any] | None = None,
        attentions: tuple[Any, ...] | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Give the maps of the chosen stages in the form that was asked for.

        Args:
            states: one tensor for every stage, in the order of `stage_names`.
            finish: makes the map of a stage, by its name, of its state, which is the map unless given.
            attentions: attention weights, where they were asked for.
            output_hidden_states: give `states` too; unless given, as in the configuration.
            return_dict: unless given, as in the configuration.
        """
        chosen: Any = self
        maps = tuple(states[place] for place in self.config.out_indices)
        if finish is not None:
            maps = tuple(finish(name, state) for name, state in zip(self.out_features, maps, strict=True))
        hidden = tuple(states) if chosen._chosen("output_hidden_states", output_hidden_states) else None
        output = BackboneOutput(feature_maps=maps, hidden_states=hidden, attentions=attentions)
        return output if chosen._chosen("return_dict", return_dict) else output.to_tuple()

    def forward_with_filtered_kwargs(self, *args: Any, **kwargs: Any) -> Any:
        """Call the backbone with those of the keywords that it names, whatever other backbones take."""
        model: Any = self
        kind, names = type(self), ("forward", "call", "__call__")  # what torch, Keras and Flax have one write
        known = inspect.signature(next(getattr(kind, name) for name in names if hasattr(kind, name))).parameters
        return model(*args, **{name: value for name, value in kwargs.items() if name in known})
