"""What `transformers` means in the code of a checkpoint where Transformers is not installed: maquette, under its names.

Code that was written for Transformers takes base classes, outputs and activations from modules that are laid out in the
peer's way. A name means the same from whichever of them it is taken. Beside maquette's own public names there is what
such code needs to be imported and run as a model: the rest of this package, by `HOMES`. A name that is not here is an
error that says which.
"""

import importlib
import re
import types
from collections.abc import Sequence
from typing import Any

from maquette.errors import RemoteCodeError, did_you_mean

# Whose names these are; code compares it with the release it was written for.
PEER_VERSION = "5.23.0"
HOMES = {
    "docstrings": (
        "RopeParameters",
        "add_code_sample_docstrings",
        "add_end_docstrings",
        "add_start_docstrings",
        "add_start_docstrings_to_model_forward",
        "auto_docstring",
        "can_return_tuple",
        "capture_outputs",
        "check_model_inputs",
        "deprecate_kwarg",
        "merge_with_config_defaults",
        "replace_return_docstrings",
        "rope_config_validation",
        "use_kernel_forward_from_hub",
        "use_kernel_func_from_hub",
        "use_kernelized_func",
    ),
    "constants": (
        "CONFIG_NAME",
        "DUMMY_INPUTS",
        "DUMMY_MASK",
        "IMAGENET_DEFAULT_MEAN",
        "IMAGENET_DEFAULT_STD",
        "IMAGENET_STANDARD_MEAN",
        "IMAGENET_STANDARD_STD",
        "OPENAI_CLIP_MEAN",
        "OPENAI_CLIP_STD",
        "SAFE_WEIGHTS_NAME",
        "WEIGHTS_NAME",
        "AudioInput",
        "ChannelDimension",
        "EncodedInput",
        "ExplicitEnum",
        "FlashAttentionKwargs",
        "ImageInput",
        "PaddingStrategy",
        "PreTokenizedInput",
        "TensorType",
        "TextInput",
        "TransformersKwargs",
        "TruncationStrategy",
        "Unpack",
    ),
    "availability": (
        "is_flash_attn_greater_or_equal",
        "is_flash_attn_greater_or_equal_2_10",
        "is_torch_greater_or_equal",
        "is_torch_greater_or_equal_than_1_13",
        "is_torch_greater_or_equal_than_2_0",
        "is_torch_greater_or_equal_than_2_1",
        "is_torch_greater_or_equal_than_2_2",
        "is_torchdynamo_compiling",
        "requires_backends",
        "require_version",
    ),
    "outputs": (
        "BaseModelOutputWithCrossAttentions",
        "BaseModelOutputWithPastAndCrossAttentions",
        "BaseModelOutputWithPoolingAndCrossAttentions",
        "CausalLMOutputWithCrossAttentions",
        "DepthEstimatorOutput",
        "NextSentencePredictorOutput",
        "SemanticSegmenterOutput",
    ),
    "images": ("PILImageResampling", "make_list_of_images", "to_numpy_array"),
    "generation": ("GenerationMixin",),
    "attention_masks": (
        "_prepare_4d_attention_mask",
        "_prepare_4d_attention_mask_for_sdpa",
        "_prepare_4d_causal_attention_mask",
        "_prepare_4d_causal_attention_mask_for_sdpa",
    ),
    "causal_masks": (
        "ALL_ATTENTION_FUNCTIONS",
        "AttentionInterface",
        "create_bidirectional_mask",
        "create_causal_mask",
        "create_sliding_window_causal_mask",
        "sdpa_attention_forward",
        "slice_logits_to_keep",
    ),
    "rotary": ("ROPE_INIT_FUNCTIONS", "dynamic_rope_update"),
    "layers": (
        "ALL_LAYERNORM_LAYERS",
        "Conv1D",
        "GELUActivation",
        "GradientCheckpointingLayer",
        "NewGELUActivation",
        "QuickGELUActivation",
        "SiLUActivation",
        "apply_chunking_to_forward",
        "get_activation",
        "gelu",
        "meshgrid",
        "set_seed",
        "silu",
    ),
}
PLACES = {name: f"maquette.modeling.compatibility.{module}" for module, names in HOMES.items() for name in names}
PLACES |= dict.fromkeys(("Cache", "DynamicCache", "StaticCache"), "maquette.generation.foreign_caches")
PLACES["EncoderDecoderCache"] = "maquette.generation.foreign_pairs"
PLACES["LogitsWarper"] = "maquette.generation.logits"  # the base that releases before 4.46 had
PLACES |= dict.fromkeys(("find_pruneable_heads_and_indices", "prune_linear_layer"), "maquette.modeling.embeddings")
# Modules of Transformers that code takes as objects: `from transformers import utils`.
_MODULES = """
    activations cache_utils configuration_utils file_utils generation image_processing_utils image_utils
    masking_utils modeling_attn_mask_utils modeling_layers modeling_outputs modeling_rope_utils modeling_utils models
    processing_utils pytorch_utils
    tokenization_utils tokenization_utils_base tokenization_utils_fast utils
"""
MODULES = frozenset(_MODULES.split())
_AVAILABILITY = re.compile(r"is_(\w+)_available")


def stand_in(name: str, wanted: Sequence[str]) -> types.ModuleType:
    """Give what `import name` or `from name import wanted` takes, where `name` is `transformers` or a module of it.

    Raises:
        RemoteCodeError: listing the names that are wanted and that there are not.
    """
    if missing := [one for one in wanted if one != "*" and not _has(one)]:
        raise RemoteCodeError(f"The code takes {', '.join(missing)} from {name}. {_explain(missing[0])}", name=name)
    top = module = StandIn("transformers")
    for part in name.split(".")[1:]:
        setattr(module, part, inner := StandIn(f"{module.place}.{part}"))
        module = inner
    return module if wanted else top


class StandIn(types.ModuleType):
    """A module of Transformers, as far as there is what is in it."""

    def __init__(self, place: str) -> None:
        super().__init__("maquette", f"Stands in for {place}, which is not installed.")
        self.place = place
        if place == "transformers":
            self.__version__ = PEER_VERSION

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return dir(importlib.import_module("maquette"))
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        try:
            return _find(name, self.place)
        except LookupError:
            raise AttributeError(f"The code takes {name} from {self.place}. {_explain(name)}") from None


def _find(name: str, place: str) -> Any:
    """Find what a name of Transformers stands for.

    Raises:
        LookupError: nothing here.
    """
    if name == "__version__":
        return PEER_VERSION
    if name == "logging":
        return importlib.import_module("maquette.modeling.compatibility.logs")
    if name in PLACES:
        return getattr(importlib.import_module(PLACES[name]), name)
    if found := _AVAILABILITY.fullmatch(name):
        return importlib.import_module("maquette.modeling.compatibility.availability").availability(found[1])
    maquette = importlib.import_module("maquette")
    if name in dir(maquette):
        return getattr(maquette, name)
    if name in MODULES:
        return StandIn(f"{place}.{name}")
    raise LookupError(name)


def _has(name: str) -> bool:
    known = name in PLACES or name in MODULES or name in ("logging", "__version__")
    return known or bool(_AVAILABILITY.fullmatch(name)) or name in dir(importlib.import_module("maquette"))


def _explain(name: str) -> str:
    near = did_you_mean(name, {*PLACES, *dir(importlib.import_module("maquette"))})
    return (
        "transformers is not installed, and maquette, which stands in for it, has no such name."
        f"{near} Where nothing else will do, load the checkpoint with transformers."
    )
