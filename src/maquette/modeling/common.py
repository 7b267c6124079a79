"""`from_pretrained` and `save_pretrained` of models, written once; a framework adds how to build, fill and read one."""

import copy
import functools
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from maquette.checkpoint import (
    Checkpoint,
    ExpectedParameters,
    LoadReport,
    Shape,
    StateDict,
    Strictness,
    announce,
    match,
    write_weights,
)
from maquette.checkpoint.quantized import check_method
from maquette.configuration import PretrainedConfig
from maquette.errors import CheckpointError, ConfigurationError, SaveError, bullets, did_you_mean
from maquette.hub.sources import SOURCE_OPTIONS, Source, open_source, take_source_options
from maquette.modeling.outputs import ModelOutput
from maquette.pretrained.mixin import PretrainedMixin
from maquette.remote_code.bundling import pack_code
from maquette.storage.sizes import parse_size
from maquette.storage.transaction import Transaction

logger = logging.getLogger(__name__)

_KEPT = (
    "past_key_values",
    "hidden_states",
    "attentions",
    "cross_attentions",
    "router_logits",
)  # what a head passes on from its base model
WITHOUT_EFFECT = {"save_function", "save_original_format", "save_peft_format"}  # what Transformers takes there

if TYPE_CHECKING:
    _ClassWay = classmethod
else:

    class _ClassWay(classmethod):
        """A class method that says so when it is called on an object, which stays as it is."""

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            bound = super().__get__(instance, owner)
            if instance is None:
                return bound

            @functools.wraps(bound)
            def call(*args: Any, **kwargs: Any) -> Any:
                logger.warning(
                    "%s(…) on a model gives another model, and leaves this one as it is: keep what it returns, or put "
                    "weights into this one with load_state_dict.",
                    bound.__name__,
                )
                return bound(*args, **kwargs)

            return call


class ModelMixin(PretrainedMixin):
    """What models of every framework share. Frameworks implement the hooks at the end of the class."""

    config_class: ClassVar[type[PretrainedConfig] | None] = None
    base_model_prefix: ClassVar[str] = ""
    main_input_name: ClassVar[str] = "input_ids"
    _keys_to_ignore_on_load_missing: ClassVar[Iterable[str] | None] = None
    _keys_to_ignore_on_load_unexpected: ClassVar[Iterable[str] | None] = None
    _reads_quantized: ClassVar[bool] = False
    config: PretrainedConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        hint = vars(cls).get("__annotations__", {}).get("config")  # `config: MyConfig` says as much as config_class
        found = getattr(sys.modules.get(cls.__module__), hint, None) if isinstance(hint, str) else hint
        if "config_class" not in vars(cls) and isinstance(found, type) and issubclass(found, PretrainedConfig):
            cls.config_class = found

    @_ClassWay
    def from_pretrained(
        cls,  # noqa: N805 - a class method all the same
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *model_args: Any,
        **kwargs: Any,
    ) -> Any:
        """Build a model and fill it with saved weights; it comes back in evaluation mode.

        The constructor really runs. Every parameter and buffer is then filled from the file, or keeps exactly the
        value that the constructor gave it.

        Args:
            pretrained_model_name_or_path: a folder, or a repository of the Hub; None with a `config` and `state_dict`.
            model_args: further positional arguments of the constructor.
            config: a configuration, or where to read one, instead of the one beside the weights.
            dtype: the floating-point type of the weights, such as `torch.bfloat16` or `"bfloat16"`; unless given, what
                the file holds. (`torch_dtype` is its older name.)
            strict: True makes every difference between file and model an error; False lets the model initialise
                whatever is missing. Unless given, only a head that the file never had may be missing.
            allow_missing: patterns such as `"head.*"` of weights to initialise where the file has none.
            ignore_mismatched_sizes: initialise weights whose shapes differ, instead of raising.
            output_loading_info: give `(model, info)`, with the lists `missing_keys`, `unexpected_keys` and
                `mismatched_keys`.
            variant: read `model.<variant>.safetensors`.
            state_dict: weights, by their names, to take in place of the file's; they are copied.
            key_mapping: other names for the file's weights, as `{pattern: replacement}`: regular expressions, of which
                the first match in a name is replaced, one pattern after the other.
            trust_remote_code: True, or `"sha256:…"`, to run the code of its parts; this class is already code.
            device_map: where the model goes, torch only: one device, such as `"cuda"`; `"auto"`, `"balanced"`,
                `"balanced_low_0"` or `"sequential"` to divide it among the devices there are, the CPU and the disk; or
                a dictionary from names of modules to devices and `"disk"`.
            max_memory: how much of each device may be used, as `{0: "10GB", "cpu": "30GB"}`.
            offload_folder: where weights are written that go to disk and are not in the file as they are.
            quantization: `"int8"` or another scheme of `quantize`, to put linear layers into fewer bits; torch only.
                (`quantization_config` is the same.) Weights that were saved so need nothing.
            from_pt, from_tf, from_flax: not needed, as all frameworks share one format; accepted and without effect.
            revision, subfolder, token, cache_dir, local_files_only, force_download: where to read from.
            kwargs: fields of the configuration to override, and further keywords of the constructor.

        Raises:
            CheckpointError: weights and model do not fit; lists every name and says what lets it pass.
            MissingFileError, FileFormatError, ConfigurationError: with the file, the key, and what to do.
        """
        options = take_source_options(kwargs)
        if pretrained_model_name_or_path is None:
            if kwargs.get("state_dict") is None or not isinstance(kwargs.get("config"), PretrainedConfig):
                raise TypeError(f"{cls.__name__}.from_pretrained(None) needs config=<an object> and state_dict=….")
            return cls.from_source(None, *model_args, **kwargs)
        with open_source(pretrained_model_name_or_path, **options) as source:
            return cls.from_source(source, *model_args, **kwargs)

    @classmethod
    def from_source(
        cls,
        source: Source | None,
        *model_args: Any,
        config: PretrainedConfig | str | os.PathLike[str] | None = None,
        dtype: Any = None,
        torch_dtype: Any = None,
        strict: bool | None = None,
        allow_missing: Iterable[str] = (),
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        variant: str | None = None,
        state_dict: Mapping[str, Any] | None = None,
        key_mapping: Mapping[str, str] | None = None,
        device_map: Any = None,
        max_memory: Mapping[Any, Any] | None = None,
        offload_folder: str | None = None,
        trust_remote_code: bool | str | None = None,
        low_cpu_mem_usage: bool | None = None,
        use_safetensors: bool | None = None,
        from_pt: bool = False,
        from_tf: bool = False,
        from_flax: bool = False,
        adapter_kwargs: Mapping[str, Any] | None = None,
        quantization: Any = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Do the work of `from_pretrained` on a source that is open already; None where nothing is read from one."""
        if (adapter_kwargs or {}).get("_adapter_model_path"):  # transformers' loaders pass it, with or without one
            raise ValueError("An adapter lies beside these weights: load the model first, then the adapter with peft.")
        if use_safetensors is False:
            raise ValueError("use_safetensors=False: maquette reads safetensors only. Convert the weights first.")
        tolerance = Strictness(
            strict=strict, allow_missing=tuple(allow_missing), ignore_mismatched_sizes=ignore_mismatched_sizes
        )
        constructor_kwargs, overrides = cls._sort_keywords(kwargs)
        settings = cls._load_config(source, config, overrides, trust=trust_remote_code)
        if state_dict is None and source is not None:
            checkpoint = Checkpoint.open(source, variant=variant)
        else:
            checkpoint = StateDict(state_dict or {})
        check_method(settings, checkpoint.metadata, checkpoint.label, reads=cls._reads_quantized)
        if key_mapping:
            checkpoint.rename(key_mapping)
        kind = dtype if dtype is not None else torch_dtype
        model, pending = cls._build(settings, model_args, constructor_kwargs, dtype=kind, checkpoint=checkpoint)
        places = model._choose_places(
            device_map,
            checkpoint,
            dtype=kind,
            max_memory=max_memory,
            offload_folder=offload_folder,
        )
        weights = cls._read_weights(model, checkpoint)
        report = cls._match(model, weights, checkpoint, tolerance)
        model = cls._fill(model, pending, weights, report, dtype=kind)
        model._quantize_as_asked(quantization if quantization is not None else quantization_config)
        model._place(places, checkpoint, report)
        if source is not None:
            model._read_beside(source)
        return (model, report.as_dict()) if output_loading_info else model

    def _read_beside(self, source: Source) -> None:
        """Override to read what else lies beside the weights."""

    @classmethod
    def _match(
        cls, model: Any, weights: Mapping[str, Any], checkpoint: Checkpoint, tolerance: Strictness
    ) -> LoadReport:
        shapes: dict[str, Shape] = {name: tuple(weight.shape) for name, weight in weights.items()}
        slots = cls._slots(model, checkpoint)
        report = match(shapes, slots, prefix=cls.base_model_prefix, ignored=cls._unexpected_patterns())
        report.metadata = checkpoint.metadata
        tolerance = tolerance.also_allowing(cls._keys_to_ignore_on_load_missing or ())
        names = {"model": cls.__name__, "label": checkpoint.label}
        tolerance.judge(report, prefix=cls.base_model_prefix, expected=slots, found=shapes, **names)
        announce(report, shapes=slots.shapes, **names)
        return report

    @classmethod
    def _unexpected_patterns(cls) -> tuple[str, ...]:
        """Give regular expressions of what a file may hold without the model wanting it."""
        return tuple(cls._keys_to_ignore_on_load_unexpected or ())

    @classmethod
    def _sort_keywords(cls, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tell keywords of the constructor from fields of the configuration."""
        parameters = list(inspect.signature(cls.__init__).parameters.values())[2:]
        own = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        return (
            {name: value for name, value in kwargs.items() if name in own},
            {name: value for name, value in kwargs.items() if name not in own},
        )

    @classmethod
    def _load_config(
        cls, source: Source | None, config: Any, overrides: dict[str, Any], *, trust: bool | str | None = None
    ) -> PretrainedConfig:
        config_class = cls._require_config_class()
        how: dict[str, Any] = {"return_unused_kwargs": True, "trust_remote_code": trust}
        if config is None and source is not None:
            found, unused = config_class.from_source(source, overrides, **how)
        elif isinstance(config, PretrainedConfig):
            found, unused = config._changed(overrides, "the given configuration", return_unused=True)
        else:
            found, unused = config_class.from_pretrained(config, **how, **overrides)
        if unused:
            options = {*SOURCE_OPTIONS, *inspect.signature(cls.from_source).parameters, *config_class._names()}
            raise TypeError(
                "\n".join(
                    f"{cls.__name__}.from_pretrained has no option {name!r}.{did_you_mean(name, options)}"
                    for name in unused
                )
            )
        settings: PretrainedConfig = found
        return settings

    @classmethod
    def _override(cls, config: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Give the configuration with the fields among the keywords, and the keywords that are none."""
        own, fields = cls._sort_keywords(kwargs)
        if not fields or not isinstance(config, PretrainedConfig):
            return config, kwargs
        config, unused = config._changed(fields, "the given configuration", return_unused=True)
        return config, own | unused

    @classmethod
    def _require_config_class(cls) -> type[PretrainedConfig]:
        if cls.config_class is None:
            raise TypeError(
                f"{cls.__name__} does not say what configures it: set `config_class = MyConfig` in the class."
            )
        return cls.config_class

    @classmethod
    def from_config(cls, config: PretrainedConfig, *, dtype: Any = None, **kwargs: Any) -> Any:
        """Build a model with fresh weights, as the constructor does, in the floating-point type given.

        Fields of the configuration among `kwargs` change a copy of it, as in `from_pretrained`.
        """
        config, kwargs = cls._override(config, kwargs)
        model = cls(config, **kwargs)  # type: ignore[call-arg]
        model._cast(dtype)
        return model

    _from_config = from_config

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, push_to_hub: bool = False, **options: Any
    ) -> None:
        """Save configuration, weights, and code that was registered to go along, into one folder.

        Args:
            save_directory: a folder, made where it is missing. Its other files stay as they are.
            push_to_hub: also upload what was saved.
            max_shard_size: the most bytes of one weights file, such as `"5GB"` (the default).
            state_dict: weights to save instead of the model's own.
            variant: put into the name of the weights files.
            verify: True first tries in a fresh process, which does not see your source, whether what is saved loads and
                is the same, configuration and weights bit for bit.
            is_main_process: False does nothing, for the other processes of a distributed run.
            save_function, save_original_format, save_peft_format: accepted, and without effect.
            options: further, the options of `push_to_hub`.

        Raises:
            SaveError, RemoteCodeError: what cannot be saved, and how to fix it. Nothing is changed then.
        """
        for name in WITHOUT_EFFECT & options.keys():
            if options.pop(name) is not None:
                _say_unused(name)
        if options.pop("is_main_process", True):
            super().save_pretrained(save_directory, push_to_hub=push_to_hub, **options)

    def _write_to(
        self,
        transaction: Transaction,
        *,
        max_shard_size: int | str = "5GB",
        state_dict: Mapping[str, Any] | None = None,
        variant: str | None = None,
        safe_serialization: bool = True,
    ) -> None:
        if not safe_serialization:
            raise SaveError("safe_serialization=False: maquette writes safetensors only, never pickled weights.")
        if self._write_adapter(transaction, state_dict):
            return
        config = copy.deepcopy(self.config)
        config.architectures = [self._own_class().__name__]
        sizes, write_file = self._export(state_dict)
        config.dtype = self._dtype_name()
        self._write_quantization(config)
        pack_code(self._own_class(), config, transaction)
        config._write_file(transaction)
        self._write_beside(transaction)
        write_weights(transaction, sizes, write_file, limit=parse_size(max_shard_size), variant=variant)

    def _write_beside(self, transaction: Transaction) -> None:
        """Override to write what else belongs beside the weights."""

    def ship(self, folder: str | os.PathLike[str], *, to: str, **options: Any) -> Any:
        """Export for another engine, such as "onnx", open the result there in a fresh process, and compare outputs.

        Args:
            folder: a new or an empty one.
            to: the engine.
            options: as `maquette.workshop.ship` takes them: `inputs`, `processors`.
        """
        workshop = importlib.import_module("maquette.workshop.ship")  # which stands above, and is asked for by name
        return workshop.ship(self, folder, to=to, **options)

    # Answering -------------------------------------------------------------------------------------------------

    def _chosen(self, name: str, value: bool | None) -> bool:
        """Give an argument of a call; None means what the configuration says."""
        return bool(getattr(self.config, name)) if value is None else value

    def _make_output(self, kind: type[ModelOutput], output: Any, options: Mapping[str, Any], *values: Any) -> Any:
        """Give a head's loss and logits, and what the base model kept on the way, in the form that was asked for.

        Args:
            kind: the head's output class.
            output: what the base model returned.
            options: the arguments of the call, of which `return_dict` counts.
            values: the first fields of `kind`.
        """
        kept = {n: output.get(n) for n in _KEPT if n in kind._names}
        result = kind(*values, **kept)
        return result if self._chosen("return_dict", options.get("return_dict")) else result.to_tuple()

    def _choose_inputs(self, input_ids: Any, inputs_embeds: Any, *, most: int | None = None, width: int) -> Any:
        """Give the one of the two that was given: ids `(batch, length)`, or vectors `(batch, length, width)`.

        Vectors may come as `input_ids` too: captum puts them in the place of ids.

        Raises:
            ValueError: both or neither, another type of numbers or shape, or more than `most` tokens (any number unless
                given).
        """
        inputs = inputs_embeds if input_ids is None else input_ids
        if inputs is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("Give either input_ids or inputs_embeds, and not both.")
        shape, are_vectors = tuple(inputs.shape), "float" in str(inputs.dtype)
        fits = (
            len(shape) == 3 and shape[2] in (width, None) if are_vectors else len(shape) == 2 and inputs_embeds is None
        )
        if not fits:
            raise ValueError(
                f"input_ids are whole numbers (batch, length), inputs_embeds floating-point (batch, length, {width}): "
                f"not {inputs.dtype} {shape}."
            )
        if most is not None and (inputs.shape[1] or 0) > most:  # None where a compiler leaves it open
            raise ValueError(f"{inputs.shape[1]} tokens, {most} positions: truncate, or resize_position_embeddings.")
        return inputs

    def add_model_tags(self, tags: str | Iterable[str]) -> None:
        """Add tags for the model's page on the Hub."""
        known = self.__dict__.setdefault("model_tags", [])
        known += [tag for tag in ([tags] if isinstance(tags, str) else tags) if tag not in known]

    # Hooks -----------------------------------------------------------------------------------------------------

    def _quantize_as_asked(self, scheme: Any) -> None:
        """Quantise what has just been loaded."""
        if scheme is not None:
            self.quantize(scheme)

    def _write_quantization(self, config: PretrainedConfig) -> None:
        """Override to write into a save's configuration how weights are quantised."""

    def quantize(self, scheme: Any, *, skip: Iterable[str] = ()) -> Any:
        """Put weights into fewer bits; torch models can."""
        raise ConfigurationError(f"{type(self).__name__} cannot be quantised: that is for torch models, by torchao.")

    @classmethod
    def _build(
        cls,
        config: PretrainedConfig,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        dtype: Any,
        checkpoint: Checkpoint,
    ) -> tuple[Any, Any]:
        """Run the constructor; give the model and what `_fill` needs to know of the initialisation that waits."""
        raise NotImplementedError

    @classmethod
    def _slots(cls, model: Any, checkpoint: Checkpoint) -> ExpectedParameters:
        """Name what the model wants filled."""
        raise NotImplementedError

    @classmethod
    def _read_weights(cls, model: Any, checkpoint: Checkpoint) -> dict[str, Any]:
        """Read the checkpoint's tensors under torch's names."""
        raise NotImplementedError

    @classmethod
    def _fill(cls, model: Any, pending: Any, weights: Mapping[str, Any], report: LoadReport, *, dtype: Any) -> Any:
        """Put the weights in, run the initialisation of what stays without, and give the model."""
        raise NotImplementedError

    def _own_class(self) -> type["ModelMixin"]:
        """Give the class that is saved."""
        return type(self)

    def _write_adapter(self, transaction: Transaction, state_dict: Mapping[str, Any] | None) -> bool:
        """Save adapters alone, where there are some; tells whether it did."""
        return False

    def _export(self, state_dict: Mapping[str, Any] | None) -> tuple[dict[str, int], Callable[[list[str], Path], None]]:
        """Give the bytes of every tensor to save, and a function that writes some of them to a file."""
        raise NotImplementedError

    def _dtype_name(self) -> str | None:
        raise NotImplementedError

    def _cast(self, dtype: Any) -> None:
        raise NotImplementedError

    def _choose_places(self, device_map: Any, checkpoint: Checkpoint, *, dtype: Any, **options: Any) -> Any:
        """Decide where parts of a model go, before it is filled; None where nobody asked."""
        raise NotImplementedError

    def _place(self, places: Any, checkpoint: Checkpoint, report: LoadReport) -> None:
        """Put the filled model there."""


@functools.cache
def _say_unused(name: str) -> None:
    logger.warning("save_pretrained(%s=…) has no effect here: weights are safetensors, all there or not there.", name)


def check_ties(report: LoadReport, weights: Mapping[str, Any]) -> None:
    """Refuse a file that holds two values for what the model has one parameter for.

    Raises:
        CheckpointError: naming each pair.
    """
    pairs = [(one, two, weights[one], weights[two]) for one, two in report.conflicts]
    wrong = [f"{one} and {two}" for one, two, a, b in pairs if not ((a == b) | ((a != a) & (b != b))).all()]  # NaN too
    if wrong:
        raise CheckpointError(
            f"The model ties weights for which the file holds different values:{bullets(wrong)}\nIf the checkpoint was "
            "trained untied, load it with tie_word_embeddings=False."
        )
