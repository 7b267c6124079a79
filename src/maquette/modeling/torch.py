"""`PreTrainedModel`, the base of every torch model."""

import functools
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import nn

import maquette.modeling.torch_trees  # noqa: F401 - lets torch see inside outputs
from maquette.checkpoint import Checkpoint, ExpectedParameters, LoadReport, read_names
from maquette.configuration import PretrainedConfig
from maquette.errors import CheckpointError, ConfigurationError, SaveError, bullets
from maquette.modeling.adapters import AdapterMixin
from maquette.modeling.call_errors import explain
from maquette.modeling.common import ModelMixin, check_ties
from maquette.modeling.deferred import Deferred
from maquette.modeling.devices import choose_places, main_device, place, read_state
from maquette.modeling.embeddings import EmbeddingMixin
from maquette.modeling.generating import GenerationMixin
from maquette.modeling.hidden_layers import find_hidden, say_hidden
from maquette.modeling.mapping import map_tensors
from maquette.modeling.masks import MaskMixin
from maquette.modeling.model_view import draw_model
from maquette.modeling.module_tree import grow
from maquette.modeling.provenance import TooLargeError, constructing, current, is_lazy, walk
from maquette.modeling.quantization import (
    QuantizationMixin,
    assemble,
    check_type,
    count_bytes,
    is_quantized,
    take_apart,
)
from maquette.modeling.recomputing import recompute_blocks
from maquette.modeling.weights import (
    BUFFER_TYPES,
    LATE_BUFFERS,
    as_dtype,
    check_classes,
    converted,
    distinct,
    evaluated,
    find_parent,
    find_place,
    list_saved,
    match_dtype,
    put,
    restore_types,
    shared_memory,
    unsaved_buffers,
    unwrapped,
)
from maquette.storage.html_view import never_raising

logger = logging.getLogger(__name__)


class ModelMeta(type):
    """Finishes every construction: initialisation, ties and pruning happen without the class asking for them."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            with constructing():
                model = super().__call__(*args, **kwargs)
                if not hasattr(model, "config"):
                    raise TypeError(_say_unfinished(cls))
                model._finish()
        except TooLargeError as error:
            config = next((v for v in (*args, *kwargs.values()) if isinstance(v, PretrainedConfig)), None)
            if config is None:
                raise
            raise ConfigurationError(error.explain(cls.__name__, config)) from None
        except AttributeError as error:  # torch's, from the module that was not begun; or of another's configuration
            if "before Module.__init__() call" not in str(error):
                if (said := _say_foreign(cls, error, args, kwargs)) is not None:
                    raise TypeError(said) from None
                raise
            raise TypeError(_say_unfinished(_find_unfinished(error) or cls)) from None
        return model


class PreTrainedModel(
    GenerationMixin,
    AdapterMixin,
    EmbeddingMixin,
    MaskMixin,
    QuantizationMixin,
    ModelMixin,
    nn.Module,
    metaclass=ModelMeta,
):
    """A torch module that is made from a configuration, saved to a folder, and loaded back exactly.

    Set `config_class`, take `config` first in `__init__`, call `super().__init__(config)`, build layers, and write
    `forward`. Nothing else is needed.

    Class attributes:
        config_class: the configuration that makes this model.
        base_model_prefix: the attribute under which models with a head keep the base model.
        main_input_name: the first argument of `forward`.

    To initialise weights in one place, write `_init_weights(self, module)`: it is called for every module once, after
    the constructor. What the constructor did not draw itself, but loaded or was handed, keeps its values.
    """

    _reads_quantized = True
    supports_gradient_checkpointing: ClassVar[bool] = False
    accepts_loss_kwargs: ClassVar[bool] = False  # whether `forward` takes `num_items_in_batch` (other Trainers ask)
    _keys_to_ignore_on_save: ClassVar[Iterable[str] | None] = None
    _keep_in_fp32_modules: ClassVar[Iterable[str]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.config_class is not None:  # torch.load then takes a checkpoint whose hyperparameters hold one
            torch.serialization.add_safe_globals([cls.config_class])

    def __init__(self, config: PretrainedConfig, *inputs: Any, **kwargs: Any) -> None:
        super().__init__()
        if not isinstance(config, PretrainedConfig):
            raise TypeError(
                f"{type(self).__name__} is made from a configuration, not from a {type(config).__name__}. To load "
                f"saved weights, use {type(self).__name__}.from_pretrained(name_or_path)."
            )
        self.config = config
        self.name_or_path = config.name_or_path

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return super().__call__(*args, **kwargs)
        try:
            return super().__call__(*args, **kwargs)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if (explained := explain(self, error, args, kwargs)) is None:
                raise
            raise explained from None

    # Construction ----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self.post_init()
        self.tie_weights()
        if self.config.pruned_heads and self.base_model is self:
            self._prune(self.config.pruned_heads)
        if hidden := find_hidden(self, into_models=False):
            logger.warning("%s", say_hidden(type(self).__name__, hidden))
        self.__dict__["_constructed_names"] = frozenset(list_saved(self))

    def post_init(self) -> None:
        """Initialise what `_init_weights` says; happens by itself after the constructor, so nobody needs to call it."""
        construction = current()
        if construction is not None and _initialises(self):
            with torch.no_grad(), construction.keeping(self):
                self._initialise(self)

    init_weights = post_init  # as older models call it

    def _initialise(self, module: nn.Module) -> None:
        """Initialise children before parents, and every module once, whichever model of a nest comes first."""
        for child in module._modules.values():
            if child is None:
                continue
            owner = child if isinstance(child, PreTrainedModel) and _initialises(child) else self
            owner._initialise(child)
        if not module.__dict__.get("_is_initialised"):
            owner = module if isinstance(module, PreTrainedModel) else self
            owner._init_weights(module)
            module.__dict__["_is_initialised"] = True

    def _init_weights(self, module: nn.Module) -> None:
        """Override to initialise a module's own parameters; without it, they keep what their constructors gave."""

    @classmethod
    def _build(
        cls, config: PretrainedConfig, args: tuple[Any, ...], kwargs: dict[str, Any], **_: Any
    ) -> tuple[Any, Deferred]:
        with Deferred() as deferred:
            model = cls(config, *args, **kwargs)
        return model, deferred

    # Filling ---------------------------------------------------------------------------------------------------

    @classmethod
    def _slots(cls, model: "PreTrainedModel", checkpoint: Checkpoint) -> ExpectedParameters:
        slots = ExpectedParameters({})
        first: dict[Any, str] = {}
        targets = list_saved(model)
        for name, target in targets.items():
            if target is None:
                continue
            canonical = first.setdefault(find_place(target), name)  # saved once
            if canonical != name:
                slots.aliases[name] = canonical
            else:
                slots.shapes[name] = None if is_lazy(target) else tuple(target.shape)
        late = {name for name, target in targets.items() if target is None}
        late |= {name for name in read_names(checkpoint.metadata, LATE_BUFFERS) if find_parent(model, name) is not None}
        slots.lazy = late.__contains__
        return slots

    @classmethod
    def _read_weights(cls, model: "PreTrainedModel", checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        read = {name: torch.as_tensor(value) for name, value in map_tensors(checkpoint).items()}
        weights = assemble(read, checkpoint.metadata, checkpoint.label)
        for prefix, module in walk(model):  # modules that translate the names of their older versions
            for hook in module._load_state_dict_pre_hooks.values():
                hook(weights, prefix, {}, True, [], [], [])
        return weights

    @classmethod
    def _fill(
        cls,
        model: "PreTrainedModel",
        pending: Deferred,
        weights: Mapping[str, torch.Tensor],
        report: LoadReport,
        *,
        dtype: Any,
    ) -> "PreTrainedModel":
        targets = list_saved(model)
        if absent := [name for name, target in targets.items() if target is not None and target.is_meta]:
            raise CheckpointError(
                f"{cls.__name__} was constructed on the meta device, where weights have no memory to be put into:"
                f"{bullets(absent[:5])}\nCall from_pretrained outside of torch.device('meta')."
            )
        kind = as_dtype(dtype)
        found = {name: cls._converted(name, weights[key], kind) for name, key in report.assigned.items()}
        filled = [target for name in found if (target := targets.get(name)) is not None and not is_lazy(target)]
        pending.run(except_for=filled)
        cls._check_fresh(pending, {name: targets[name] for name in report.missing})
        check_ties(report, weights)
        if kind is not None and (first := next(filter(is_quantized, found.values()), None)) is not None:
            check_type(first, kind, cls.__name__)
        is_shared = shared_memory(filled)
        for name, value in found.items():
            put(model, name, targets.get(name), value, copy=is_shared(targets.get(name)))
        match_dtype([targets[name] for name in targets.keys() - found.keys()], kind, found.values())
        if kind is None:
            restore_types(model, report.metadata)
        return evaluated(model)

    @classmethod
    def _converted(cls, name: str, value: torch.Tensor, kind: torch.dtype | None) -> torch.Tensor:
        """Give a weight in the type that is wanted; in float16, what would overflow there stays in float32."""
        is_half = value.is_floating_point() and (kind or value.dtype) == torch.float16
        is_kept = is_half and not set(cls._keep_in_fp32_modules).isdisjoint(name.split("."))
        return converted(value, torch.float32 if is_kept else kind)

    @classmethod
    def _check_fresh(cls, pending: Deferred, missing: Mapping[str, Any]) -> None:
        empty = [
            name for name, t in missing.items() if t is not None and not is_lazy(t) and pending.is_uninitialised(t)
        ]
        if empty:
            raise CheckpointError(
                f"{cls.__name__}: these are neither in the file nor ever given a value by the constructor, which "
                f"leaves them as torch.empty:{bullets(empty)}\nInitialise them in __init__, or in _init_weights."
            )

    def _cast(self, dtype: Any) -> None:
        if (kind := as_dtype(dtype)) is not None:
            match_dtype(list_saved(self).values(), kind, ())

    def _choose_places(self, device_map: Any, checkpoint: Checkpoint, *, dtype: Any, **options: Any) -> Any:
        kind = as_dtype(dtype) or as_dtype(checkpoint.floating_type())
        return choose_places(self, device_map, dtype=kind, **options)

    def _place(self, places: Any, checkpoint: Checkpoint, report: LoadReport) -> None:
        if places is not None:
            place(self, places, checkpoint, report.assigned)

    # Saving ----------------------------------------------------------------------------------------------------

    def _export(self, state_dict: Mapping[str, Any] | None) -> tuple[dict[str, int], Callable[[list[str], Path], None]]:
        if hidden := find_hidden(self, into_models=True):
            raise SaveError(say_hidden(type(self).__name__, hidden))
        own = read_state(self)
        state = self._checked_state(own if state_dict is None else unwrapped(state_dict, own))
        flat, described = take_apart(state)
        tensors, metadata = distinct(flat), {"format": "pt", **described}
        buffers = {name for name, _ in self.named_buffers()}
        if late := sorted((tensors.keys() & buffers) - self.__dict__.get("_constructed_names", buffers)):
            metadata[LATE_BUFFERS] = json.dumps(late)
        if types := {name: str(b.dtype) for name, b in unsaved_buffers(self) if b.dtype != torch.float32}:
            metadata[BUFFER_TYPES] = json.dumps(types)

        def write_file(names: list[str], path: Path) -> None:
            save_file({name: tensors[name].contiguous() for name in names}, path, metadata)

        return {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}, write_file

    def _checked_state(self, state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        ignored = tuple(self._keys_to_ignore_on_save or ())
        kept = {name: value for name, value in state.items() if name not in ignored}
        if wrong := [
            f"{name} is a {type(value).__name__}" for name, value in kept.items() if not isinstance(value, torch.Tensor)
        ]:
            raise SaveError(f"{type(self).__name__}: only tensors can be saved:{bullets(wrong)}")
        if divided := [name for name, value in kept.items() if hasattr(value, "full_tensor")]:
            raise SaveError(
                f"{type(self).__name__} is divided among processes (fully_shard): {divided[0]} and {len(divided) - 1} "
                "others. Gather it in every process, with get_model_state_dict(model, options=StateDictOptions("
                "full_state_dict=True, cpu_offload=True)) of torch.distributed.checkpoint.state_dict, and save with "
                "state_dict=… in the first. Trainer.save_model does so."
            )
        check_classes(kept, type(self).__name__, SaveError)
        if empty := [name for name, value in kept.items() if value.is_meta or is_lazy(value)]:
            raise SaveError(
                f"{type(self).__name__}: these have no values yet (on the meta device, or a lazy layer that saw no "
                f"input):{bullets(empty)}"
            )
        return kept

    def _own_class(self) -> type["PreTrainedModel"]:
        """Give the class that the model was made of, before `fully_shard` put one of its own around it."""
        return next(cls for cls in type(self).__mro__ if not any(base.__name__ == "FSDPModule" for base in cls.__mro__))

    def _dtype_name(self) -> str | None:
        return str(self.dtype).removeprefix("torch.")

    @never_raising
    def _repr_html_(self) -> str:
        device = next((str(t.device) for t in [*self.parameters(), *self.buffers()]), "")
        return draw_model(grow(self), f", on {device}" if device else "")

    # What a model says of itself -------------------------------------------------------------------------------

    @property
    def base_model(self) -> nn.Module:
        """The model without its head; itself where it has none."""
        base = getattr(self, self.base_model_prefix, self) if self.base_model_prefix else self
        return base if isinstance(base, nn.Module) else self

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the first parameter that has one (of a buffer, where there are no parameters)."""
        tensors = [*self.parameters(), *self.buffers()]
        return next((t.dtype for t in tensors if t.is_floating_point()), torch.get_default_dtype())

    @property
    def device(self) -> torch.device:
        """Where inputs go: to where the first parameter lies; the CPU for a model without any."""
        if (found := main_device(self)) is not None:
            return found
        return next((t.device for t in [*self.parameters(), *self.buffers()]), torch.device("cpu"))

    @property
    def dummy_inputs(self) -> Any:
        """Small inputs that `forward` accepts: token ids where there is a vocabulary, otherwise None; override it."""
        if not hasattr(self.config, "vocab_size"):
            return None
        return {self.main_input_name: torch.arange(10).reshape(2, 5) % self.config.vocab_size}

    def num_parameters(self, *, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Count the numbers in all parameters, tied ones once."""
        left_out = {id(m.weight) for m in self.modules() if exclude_embeddings and isinstance(m, nn.Embedding)}
        return sum(
            p.numel() for p in self.parameters() if id(p) not in left_out and (p.requires_grad or not only_trainable)
        )

    def get_memory_footprint(self, *, return_buffers: bool = True) -> int:
        """Count the bytes of all parameters, and of buffers unless told otherwise."""
        tensors = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(map(count_bytes, tensors))

    # Gradient checkpointing ------------------------------------------------------------------------------------

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Recompute activations in the backward pass instead of keeping them (Chen et al. 2016).

        Works on every module that has an attribute `gradient_checkpointing`; where it is True, and while training, such
        a module runs its layers through `self._gradient_checkpointing_func(layer, *inputs)`. In a model without such a
        module, each block in a list of layers is recomputed, as `docs/devices.md` says how these are found.

        Raises:
            ValueError: there is no block, or blocks keep running statistics.
        """
        from torch.utils.checkpoint import checkpoint

        run = functools.partial(checkpoint, **{"use_reentrant": False, **(gradient_checkpointing_kwargs or {})})
        self._set_checkpointing(True, run)

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self._set_checkpointing(False, None)

    def _set_checkpointing(self, value: bool, run: Callable[..., Any] | None) -> None:
        modules = [module for module in self.modules() if hasattr(module, "gradient_checkpointing")]
        if not modules and not recompute_blocks(self, run):
            raise ValueError(
                f"{type(self).__name__} has no blocks in a list of layers, and no module with an attribute "
                "`gradient_checkpointing`. Set it to False in the module that runs the layers; where it is True, run "
                "them by self._gradient_checkpointing_func."
            )
        for module in modules:
            module.gradient_checkpointing = value  # type: ignore[assignment]
            module._gradient_checkpointing_func = run  # type: ignore[assignment]

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed."""
        marks = ("gradient_checkpointing", "_recompute")
        return any(getattr(module, mark, False) for module in self.modules() for mark in marks)


def _say_foreign(cls: Any, error: AttributeError, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Say that a model was given the configuration of another one, which has not what its constructor asks for."""
    config = next((v for v in (*args, *kwargs.values()) if isinstance(v, PretrainedConfig)), None)
    expected = getattr(cls, "config_class", None)
    if config is None or not isinstance(expected, type) or isinstance(config, expected) or error.obj is not config:
        return None
    return f"{cls.__name__} is made from a {expected.__name__}, and got a {type(config).__name__}: {error}"


def _find_unfinished(error: BaseException) -> type | None:
    """Find the class whose constructor assigns layers before it calls that of `nn.Module`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    owner = trace.tb_frame.f_locals.get("self") if trace is not None else None
    return type(owner) if isinstance(owner, nn.Module) else None


def _say_unfinished(kind: type) -> str:
    call = "super().__init__(config)" if issubclass(kind, PreTrainedModel) else "super().__init__()"
    return f"{kind.__name__}.__init__ has to call {call}, before it builds any layer."


def _initialises(model: PreTrainedModel) -> bool:
    return type(model)._init_weights is not PreTrainedModel._init_weights
