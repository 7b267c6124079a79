"""Weights of fewer bits, through torchao: `from_pretrained(…, quantization="int8")`, or `model.quantize("int8")`.

A layer keeps whole numbers and scales in the place of its weight, which torchao's tensors look like from outside. What
was done stands in the configuration, `quantization_config`, in the format that Transformers has for torchao; files hold
the numbers and scales by the names that torchao gives them, so that each library loads the other's folders.
"""

import copy
import fnmatch
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from maquette.checkpoint.quantized import FIELD, METHOD, find_quantized
from maquette.errors import (
    CheckpointError,
    ConfigurationError,
    MissingPackageError,
    SaveError,
    bullets,
    did_you_mean,
)

logger = logging.getLogger(__name__)

GROUP = 32  # weights that share a scale in "int4"


def _int4(torchao: Any, device: str) -> Any:
    if device == "cuda":
        return torchao.Int4WeightOnlyConfig(group_size=GROUP)
    bits: Any = torch.int4  # type: ignore[attr-defined,unused-ignore]
    return torchao.IntxWeightOnlyConfig(weight_dtype=bits, granularity=torchao.PerGroup(GROUP))


SCHEMES: dict[str, Callable[[Any, str], Any]] = {
    "int8": lambda torchao, device: torchao.Int8WeightOnlyConfig(version=2),  # older torchao has 1 as default
    "int8-dynamic": lambda torchao, device: torchao.Int8DynamicActivationInt8WeightConfig(version=2),
    "int4": _int4,
    "fp8": lambda torchao, device: torchao.Float8WeightOnlyConfig(),
    "fp8-dynamic": lambda torchao, device: torchao.Float8DynamicActivationFloat8WeightConfig(),
}


class QuantizationMixin:
    """`quantize` for a `PreTrainedModel`."""

    config: Any

    @property
    def is_quantized(self) -> bool:
        """Whether weights are numbers of fewer bits."""
        return any(is_quantized(p) for p in self.parameters())  # type: ignore[attr-defined]

    def quantize(self, scheme: Any, *, skip: Iterable[str] = ()) -> Any:
        """Put the weights of linear layers into fewer bits, through torchao; gives the model itself.

        What stays as it is: heads and output embeddings, weights that are tied, layers named by `skip`, and those whose
        width a scheme's groups do not divide. Biases, norms and embeddings are no linear layers. The numbers of a layer
        cannot be learnt any more: put an adapter on top, with peft.

        Args:
            scheme: "int8" (a scale for each output), "int8-dynamic" (inputs too, while computing), "int4" (a scale for
                every 32 weights of an output), "fp8", "fp8-dynamic"; a configuration object of `torchao.quantization`;
                or what stands in a `config.json` as its `quantization_config`.
            skip: names of layers, or patterns such as `"*.down_proj"`.

        Raises:
            ConfigurationError: an unknown scheme, one that this machine cannot do, a model without such layers, or one
                that is quantised already. The model stays as it is then.
            MissingPackageError: torchao is not installed.
        """
        model: Any = self
        if model.is_quantized:
            raise ConfigurationError(
                f"This {type(self).__name__} is quantised already, as its quantization_config says. Load the weights "
                "it was made from to quantise them in another way."
            )
        torchao = _import_torchao()
        settings, left_out = _read_scheme(torchao, scheme, model.device.type)
        chosen, stays = _choose(model, settings, [*skip, *left_out])
        if not chosen:
            raise ConfigurationError(
                f"{type(self).__name__} has no linear layer to quantise: only layers of the class torch.nn.Linear are, "
                f"without {', '.join(stays[:5]) or 'any that is left out'}."
            )
        _try(torchao, settings, next(iter(chosen.values())))
        names = {id(layer) for layer in chosen.values()}
        torchao.quantize_(model, settings, lambda module, name: id(module) in names)
        model.__dict__["_quantization"] = _describe(settings, stays)
        return model

    @property
    def quantization_config(self) -> dict[str, Any] | None:
        """What `config.json` says of how the weights are quantised; None where they are not."""
        if not self.is_quantized:
            return None
        return self.__dict__.get("_quantization") or getattr(self.config, FIELD, None)

    def _quantize_as_asked(self, scheme: Any) -> None:
        """Quantise what has just been loaded, also where the configuration says so and the file held plain weights."""
        if scheme is None and not self.is_quantized:
            scheme = getattr(self.config, FIELD, None)
        if scheme is not None:
            self.quantize(scheme)

    def _write_quantization(self, config: Any) -> None:
        """Have the configuration of a save say what the weights are, whatever it said before."""
        config._extra.pop(FIELD, None)
        if self.quantization_config:
            setattr(config, FIELD, self.quantization_config)
        elif self.is_quantized:
            logger.warning(
                "%s was quantised by torchao itself: maquette loads what is saved, but Transformers needs a "
                "quantization_config, which model.quantize(…) writes.",
                type(self).__name__,
            )


def is_quantized(tensor: Any) -> bool:
    """Tell torchao's tensors from others."""
    return is_traceable_wrapper_subclass(tensor) and type(tensor).__module__.startswith("torchao.")


def count_bytes(tensor: Tensor) -> int:
    """Count the bytes that a tensor takes in memory."""
    if not is_traceable_wrapper_subclass(tensor):
        return tensor.numel() * tensor.element_size()
    names = tensor.__tensor_flatten__()[0]  # type: ignore[attr-defined]
    return sum(count_bytes(getattr(tensor, name)) for name in names)


# Files -----------------------------------------------------------------------------------------------------------


def assemble(weights: dict[str, Tensor], metadata: Mapping[str, str], label: str) -> dict[str, Tensor]:
    """Put numbers and scales of a file together to the tensors that they were.

    Raises:
        CheckpointError: parts are missing. MissingPackageError: torchao is.
    """
    quantized = find_quantized(metadata)
    if not quantized:
        return weights
    if lost := [part for parts in quantized.values() for part in parts if part not in weights]:
        raise CheckpointError(
            f"{label!r} holds quantised weights, and lacks parts of them:{bullets(lost[:20])}\n"
            "Save the checkpoint again; key_mapping cannot rename quantised weights."
        )
    _import_torchao()
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict  # type: ignore[import-not-found,import-untyped,unused-ignore]

    parts = {part: weights[part] for names in quantized.values() for part in names}
    described = {name: metadata[name] for name in quantized} | {"tensor_names": json.dumps([*quantized])}
    try:
        found, _ = unflatten_tensor_state_dict(parts, described)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{label!r} holds quantised weights that this version of torchao does not read: {error}. Install the "
            "version they were saved with, or a newer one."
        ) from None
    return {name: value for name, value in weights.items() if name not in parts} | found


def take_apart(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Give tensors that safetensors can hold, and the metadata by which quantised ones are put together again."""
    if not any(map(is_quantized, tensors.values())):
        return dict(tensors), {}
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict  # type: ignore[import-not-found,import-untyped,unused-ignore]

    plain = {n: t if is_quantized(t) else t.detach().as_subclass(Tensor) for n, t in tensors.items()}
    try:
        flat, metadata = flatten_tensor_state_dict(plain)
    except ValueError as error:
        raise SaveError(
            f"torchao has no format of files for these quantised weights: {error}. Save the model before it is "
            "quantised, and quantise it again after loading."
        ) from None
    return flat, metadata


def check_type(value: Tensor, dtype: torch.dtype, label: str) -> None:
    """Refuse a quantised tensor that goes on computing in another type than it was converted to.

    Raises:
        CheckpointError: naming the type.
    """
    try:
        with torch.no_grad():
            nn.functional.linear(torch.zeros(1, value.shape[-1], dtype=dtype, device=value.device), value)
    except RuntimeError as error:
        raise CheckpointError(
            f"{label}: the weights were quantised ({type(value).__name__}) for another type than {dtype}: {error}. "
            f"Load them without dtype, or quantise the plain weights with dtype={dtype}."
        ) from None


def put_quantized(module: nn.Module, name: str, value: Tensor) -> None:
    """Make a quantised tensor what a module holds."""
    module._parameters[name] = nn.Parameter(value, requires_grad=False)


# Choosing --------------------------------------------------------------------------------------------------------


def _import_torchao() -> Any:
    try:
        import torchao.quantization as torchao  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise MissingPackageError("Quantised weights need torchao: pip install 'torchao>=0.15'.") from None
    return torchao


def _read_scheme(torchao: Any, scheme: Any, device: str) -> tuple[Any, list[str]]:
    """Give torchao's settings, and names of layers to leave out."""
    from torchao.core.config import AOBaseConfig, config_from_dict  # type: ignore[import-not-found,import-untyped,unused-ignore]

    if isinstance(scheme, AOBaseConfig):
        return scheme, []
    if isinstance(scheme, str):
        if scheme not in SCHEMES:
            raise ConfigurationError(
                f"There is no quantization {scheme!r}.{did_you_mean(scheme, SCHEMES)} There are {', '.join(SCHEMES)}, "
                "and the configuration objects of torchao.quantization."
            )
        return SCHEMES[scheme](torchao, device), []
    if hasattr(scheme, "quant_type") and hasattr(scheme, "to_dict"):  # TorchAoConfig of Transformers
        scheme = scheme.to_dict()
    if isinstance(scheme, Mapping):
        kind = scheme.get("quant_type")
        if scheme.get("quant_method") == METHOD and isinstance(kind, Mapping) and isinstance(kind.get("default"), dict):
            try:
                return config_from_dict(kind["default"]), [*(scheme.get("modules_to_not_convert") or ())]
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigurationError(f"torchao does not read this quantization_config: {error}.") from None
    raise ConfigurationError(
        f"quantization takes a name ({', '.join(SCHEMES)}), a configuration object of torchao.quantization, or the "
        f"quantization_config of a config.json; not {scheme!r}."
    )


def _choose(model: Any, settings: Any, skip: list[str]) -> tuple[dict[str, nn.Module], list[str]]:
    """Give the linear layers to quantise, by name, and the names of those that stay as they are."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    unused = [p for p in skip if not any(_fits(name, p) for name, _ in model.named_modules())]
    if unused:
        raise ConfigurationError(
            f"skip names {unused[0]!r}, and {type(model).__name__} has no such module."
            f"{did_you_mean(unused[0], [name for name, _ in model.named_modules() if name])}"
        )
    owners: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    outputs = model.get_output_embeddings()
    base = f"{model.base_model_prefix}." if model.base_model is not model else ""
    group = getattr(settings, "group_size", None) or getattr(getattr(settings, "granularity", None), "group_size", None)
    chosen: dict[str, nn.Module] = {}
    uneven = []
    for name, layer in linear.items():
        is_tied = owners[id(layer.weight)] > 1
        if layer is outputs or is_tied or not name.startswith(base) or any(_fits(name, p) for p in skip):
            continue
        if group and layer.in_features % group:
            uneven.append(f"{name} ({layer.in_features} inputs)")
            continue
        chosen[name] = layer
    if uneven:
        logger.warning(
            "%s: groups of %d weights do not divide these layers, which stay as they are:%s",
            type(model).__name__,
            group,
            bullets(uneven[:20]),
        )
    return chosen, [name for name in linear if name not in chosen]


def _fits(name: str, pattern: str) -> bool:
    """Tell whether a module is what a name or pattern means, or lies in it."""
    return fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") or name.endswith(f".{pattern}")


def _try(torchao: Any, settings: Any, layer: nn.Module) -> None:
    """See on a copy of one layer whether a scheme works here, so that a model is not left half changed."""
    copied = nn.Sequential(copy.deepcopy(layer))
    try:
        torchao.quantize_(copied, settings)
        with torch.no_grad():
            weight: Any = copied[0].weight
            copied(torch.zeros(1, weight.shape[1], dtype=weight.dtype, device=weight.device))
    except (ImportError, AssertionError, RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        weight = layer.weight
        raise ConfigurationError(
            f"torchao cannot do {type(settings).__name__} on {weight.device.type} with weights in "  # type: ignore[union-attr]
            f"{str(weight.dtype).removeprefix('torch.')}: {error}"
        ) from None
    if not is_quantized(weight):
        raise ConfigurationError(f"{type(settings).__name__} leaves weights as they are: it is no quantization.")


def _describe(settings: Any, stays: list[str]) -> dict[str, Any]:
    """Give what a `config.json` says of it, as Transformers writes it."""
    from torchao.core.config import config_to_dict  # type: ignore[import-not-found,import-untyped,unused-ignore]

    return {
        "quant_method": METHOD,
        "quant_type": {"default": config_to_dict(settings)},
        "modules_to_not_convert": stays or None,
        "include_input_output_embeddings": False,
        "untie_embedding_weights": False,
    }
