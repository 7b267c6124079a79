# mypy: ignore-errors
"""What the code of this model takes from Transformers: bases of configurations, models and outputs."""

import contextlib
import dataclasses

import torch
import transformers
from transformers import modeling_outputs


class PretrainedConfig(transformers.PretrainedConfig):
    """A configuration by annotated attributes, or by a constructor."""

    def __init_subclass__(cls, **kwargs):
        cls.attribute_map = {**cls.attribute_map, **cls.__dict__.get("aliases", {})}
        super().__init_subclass__(**kwargs)

    def validate(self):
        """Rules between fields were checked when the folder was made."""


class _Whole(type(transformers.PreTrainedModel)):
    def __call__(cls, *args, **kwargs):
        is_meta = torch.empty(0).is_meta  # as from_pretrained has it: constructors are to compute what they keep
        with torch.device("cpu") if is_meta else contextlib.nullcontext():
            model = super().__call__(*args, **kwargs)
        if not hasattr(model, "all_tied_weights_keys"):
            model.post_init()
        return model


class PreTrainedModel(transformers.PreTrainedModel, metaclass=_Whole):
    """A model that finishes its own construction."""

    def _move_missing_keys_from_meta_to_device(self, *args, **kwargs):
        kept = dict(self.named_buffers())
        super()._move_missing_keys_from_meta_to_device(*args, **kwargs)
        for name, buffer in self.named_buffers():
            module, _, own = name.rpartition(".")
            parent = self.get_submodule(module)
            if own in parent._non_persistent_buffers_set:
                parent._buffers[own] = kept[name].to(buffer.device)

    def _chosen(self, name, value):
        return bool(getattr(self.config, name, name == "return_dict")) if value is None else value

    def _make_output(self, kind, output, options, *values):
        names = [field.name for field in dataclasses.fields(kind)]
        kept = {name: output.get(name) for name in names[len(values) :] if name in _KEPT}
        result = kind(**dict(zip(names, values, strict=False)), **kept)
        return result if self._chosen("return_dict", options.get("return_dict")) else result.to_tuple()

    def _choose_inputs(self, input_ids, inputs_embeds, *, most=None, width):
        inputs = inputs_embeds if input_ids is None else input_ids
        if inputs is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("Give either input_ids or inputs_embeds, and not both.")
        if most is not None and inputs.shape[1] > most:
            raise ValueError(f"{inputs.shape[1]} tokens, {most} positions: truncate.")
        return inputs


_KEPT = ("past_key_values", "hidden_states", "attentions", "cross_attentions", "router_logits")


def _subclass(cls, **kwargs):
    super(cls._own, cls).__init_subclass__(**kwargs)
    dataclasses.dataclass(cls)


def __getattr__(name):
    """Give an output class of Transformers, whose subclasses need no decorator."""
    source = transformers.utils if name == "ModelOutput" else modeling_outputs
    if name.startswith("_") or not hasattr(source, name):
        raise AttributeError(name)
    found = type(name, (getattr(source, name),), {"__init_subclass__": classmethod(_subclass), "__module__": __name__})
    found._own = found
    globals()[name] = found if name == "ModelOutput" else dataclasses.dataclass(found)
    return globals()[name]


# What notebooks show, of which there is nothing here.


def never_raising(function):
    """Leave a function as it is."""
    return function


def frame(*parts, **named):
    """Draw nothing."""
    return ""


draw_filling = frame
