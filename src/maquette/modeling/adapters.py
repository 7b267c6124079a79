"""Adapters of peft: what its models ask of ours, and adapters put straight into a model."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maquette.errors import CheckpointError, MissingFileError, MissingPackageError, did_you_mean
from maquette.hub.sources import open_source, take_source_options
from maquette.storage.transaction import Transaction

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
HEADS = {
    **dict.fromkeys(("SEQ_CLS", "TOKEN_CLS"), ("classifier", "score")),
    "QUESTION_ANS": ("qa_outputs",),
}
INSIDE = "base_model.model."  # before the names of weights in the file, as a PeftModel has them


class AdapterMixin:
    """What `PreTrainedModel` can do with adapters; every method but those for gradients needs peft."""

    # Asked by peft ---------------------------------------------------------------------------------------------

    def enable_input_require_grads(self) -> None:
        """Have gradients reach adapters through frozen embeddings, as gradient checkpointing needs it."""
        model: Any = self
        if "_grad_hook" not in self.__dict__:
            hook = model.get_input_embeddings().register_forward_hook(lambda _, __, output: output.requires_grad_(True))
            self.__dict__["_grad_hook"] = hook

    def disable_input_require_grads(self) -> None:
        """Take back `enable_input_require_grads`."""
        if (hook := self.__dict__.pop("_grad_hook", None)) is not None:
            hook.remove()

    def prepare_inputs_for_generation(
        self, input_ids: Any, *, cache_position: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Give what `forward` takes for the next token; override it where that is more than what was given.

        Args:
            input_ids: all tokens, `(batch, length)`.
            cache_position: the places of those that are new, if a cache holds the others.
        """
        if cache_position is None:
            return {"input_ids": input_ids, **kwargs}
        return {"input_ids": input_ids[:, -len(cache_position) :], "cache_position": cache_position, **kwargs}

    @property
    def _hf_peft_config_loaded(self) -> bool:
        return bool(self.__dict__.get("peft_config"))

    # Adapters within this model --------------------------------------------------------------------------------

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Put a fresh adapter into the model, and train nothing else; `save_pretrained` then saves the adapter alone.

        Args:
            adapter_config: a configuration of peft, such as `LoraConfig`, of any kind but prompt learning.
            adapter_name: unless given, "default".

        Raises:
            ValueError: the name is taken, or the adapter is one that goes before the inputs.
        """
        peft = import_peft()
        name = adapter_name or "default"
        self._check_adapter(adapter_config, name)
        if adapter_config.base_model_name_or_path is None:
            adapter_config.base_model_name_or_path = self.__dict__.get("name_or_path") or None
        head = HEADS.get(str(getattr(adapter_config.task_type, "value", adapter_config.task_type)))
        if head and hasattr(adapter_config, "modules_to_save"):  # as a PeftModel of that task trains and saves it
            adapter_config.modules_to_save = [*(adapter_config.modules_to_save or ()), *head]
        peft.inject_adapter_in_model(adapter_config, self, name)
        self.set_adapter(name)

    def _check_adapter(self, adapter_config: Any, name: str) -> None:
        if not isinstance(adapter_config, import_peft().PeftConfig):
            raise TypeError(f"add_adapter takes a configuration of peft, not a {type(adapter_config).__name__}.")
        if name in self.__dict__.get("peft_config", {}):
            raise ValueError(f"There is an adapter {name!r} already: give another adapter_name, or delete that one.")
        if adapter_config.is_prompt_learning:
            raise ValueError(f"{type(adapter_config).__name__} goes before the inputs: use peft.get_peft_model.")

    def load_adapter(
        self,
        peft_model_id: Any = None,
        adapter_name: str | None = None,
        *,
        peft_config: Any = None,
        adapter_state_dict: Mapping[str, Tensor] | None = None,
        is_trainable: bool = False,
        **options: Any,
    ) -> None:
        """Put a saved adapter into the model.

        Args:
            peft_model_id: a folder, or a repository of the Hub; or else the next two.
            adapter_name: unless given, "default".
            peft_config, adapter_state_dict: the adapter's configuration and weights.
            is_trainable: whether it is going to be trained further.
            options: where to read from: `revision`, `subfolder`, `token`, …

        Raises:
            MissingFileError: there is no adapter.
            CheckpointError: its weights do not fit the model.
        """
        peft = import_peft()
        sources = take_source_options(options)
        if options:
            raise TypeError(f"load_adapter has no option {next(iter(options))!r}.")
        name = adapter_name or "default"
        if peft_model_id is not None:
            peft_config, adapter_state_dict = _read_adapter(peft, peft_model_id, sources)
        if peft_config is None or adapter_state_dict is None:
            raise ValueError("load_adapter takes a folder or repository, or peft_config with adapter_state_dict.")
        peft_config.inference_mode = not is_trainable
        was_training, others = self.training, self.__dict__.get("peft_config", {}).keys() - {name}  # type: ignore[attr-defined]
        self._check_adapter(peft_config, name)
        peft.inject_adapter_in_model(peft_config, self, name)
        self.set_adapter(name)
        state = {key.removeprefix(INSIDE): value for key, value in adapter_state_dict.items()}
        expected = peft.get_peft_model_state_dict(self, adapter_name=name)
        if wrong := sorted(expected.keys() ^ state.keys()):
            if not others:
                self.delete_adapter(name)
            where = "in the adapter's file alone" if wrong[0] in state else "not in the adapter's file"
            raise CheckpointError(
                f"The adapter does not fit {type(self).__name__}: {len(wrong)} names differ, such as {wrong[0]!r}, "
                f"which is {where}.{did_you_mean(wrong[0], expected.keys() if wrong[0] in state else state.keys())}"
            )
        peft.set_peft_model_state_dict(self, state, adapter_name=name)
        for key, parameter in self.named_parameters():  # type: ignore[attr-defined]
            if f".{name}." in f".{key}.":
                parameter.requires_grad_(is_trainable)
        self.train(was_training)  # type: ignore[attr-defined]

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Choose the adapters that count, one or several."""
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        if unknown := [name for name in names if name not in self._adapters()]:
            raise ValueError(f"There is no adapter {unknown[0]!r}; there are {', '.join(self._adapters())}.")
        for module in self._adapted():
            module.set_adapter(names if hasattr(module, "active_adapters") and len(names) > 1 else names[0])

    def disable_adapters(self) -> None:
        """Compute as if there were no adapters, until `enable_adapters`."""
        for module in self._adapted():
            module.enable_adapters(enabled=False)

    def enable_adapters(self) -> None:
        """Have adapters count again."""
        for module in self._adapted():
            module.enable_adapters(enabled=True)

    def active_adapters(self) -> list[str]:
        """Name the adapters that count."""
        active = next(self._adapted()).active_adapter
        return [active] if isinstance(active, str) else list(active)

    def get_adapter_state_dict(self, adapter_name: str | None = None, state_dict: Any = None) -> dict[str, Tensor]:
        """Give the weights of an adapter, of the active one unless named."""
        peft = import_peft()
        name = adapter_name or self.active_adapters()[0]
        found: dict[str, Tensor] = peft.get_peft_model_state_dict(self, state_dict=state_dict, adapter_name=name)
        return found

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Take adapters out of the model."""
        from peft.functional import delete_adapter  # type: ignore[import-not-found,unused-ignore]
        from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING  # type: ignore[import-not-found,unused-ignore]

        for name in [adapter_names] if isinstance(adapter_names, str) else list(adapter_names):
            if name not in self._adapters():
                raise ValueError(f"There is no adapter {name!r}; there are {', '.join(self._adapters())}.")
            prefix = PEFT_TYPE_TO_PREFIX_MAPPING[self._adapters()[name].peft_type]
            if len(self._adapters()) == 1:
                for module_name, module in [(n, m) for n, m in self.named_modules() if m in {*self._adapted()}]:  # type: ignore[attr-defined]
                    base = module.original_module if hasattr(module, "original_module") else module.get_base_layer()
                    self.set_submodule(module_name, base)  # type: ignore[attr-defined]
            else:
                delete_adapter(self, adapter_name=name, prefix=prefix)
            del self._adapters()[name]

    def _adapters(self) -> dict[str, Any]:
        found: dict[str, Any] = self.__dict__.get("peft_config") or {}
        if not found:
            raise ValueError(f"{type(self).__name__} has no adapter: call add_adapter or load_adapter.")
        return found

    def _adapted(self) -> Any:
        """Go through the modules that hold adapters."""
        peft = import_peft()
        from peft.utils import AuxiliaryTrainingWrapper  # type: ignore[import-not-found,unused-ignore]

        self._adapters()
        kinds = (peft.tuners.tuners_utils.BaseTunerLayer, AuxiliaryTrainingWrapper)
        return (module for module in self.modules() if isinstance(module, kinds))  # type: ignore[attr-defined]

    def _write_adapter(self, transaction: Transaction, state_dict: Mapping[str, Tensor] | None) -> bool:
        """Save the active adapter, as a PeftModel would; False where there is none."""
        if not is_adapted(self):
            return False
        (name, *more) = self.active_adapters()
        if more:
            raise ValueError(f"Several adapters are active ({', '.join([name, *more])}); choose one with set_adapter.")
        state = self.get_adapter_state_dict(name, state_dict)
        config, was = self._adapters()[name], self._adapters()[name].inference_mode
        with tempfile.TemporaryDirectory() as folder:
            config.inference_mode = True
            try:
                config.save_pretrained(folder)
            finally:
                config.inference_mode = was
            transaction.write(ADAPTER_CONFIG, Path(folder, ADAPTER_CONFIG).read_bytes())
        distinct = {INSIDE + key: value.detach().contiguous().clone() for key, value in state.items()}
        save_file(distinct, transaction.path(ADAPTER_WEIGHTS), {"format": "pt"})
        return True


def import_peft() -> Any:
    """Give peft.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import peft  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise MissingPackageError("Adapters need peft: pip install peft.") from error
    return peft


def _read_adapter(peft: Any, name: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    with open_source(name, **options) as source:
        config, weights = source.find(ADAPTER_CONFIG), source.find(ADAPTER_WEIGHTS)
        if config is None or weights is None:
            absent = ADAPTER_CONFIG if config is None else ADAPTER_WEIGHTS
            raise MissingFileError(f"{source.label} holds no adapter that can be loaded: {absent} is not there.")
        return peft.PeftConfig.from_pretrained(str(config.parent)), load_file(weights)


# A PeftModel -----------------------------------------------------------------------------------------------------


def is_adapted(model: Any) -> bool:
    """Tell whether a model is one of peft's, or one of ours with adapters in it."""
    return bool(getattr(model, "peft_config", None))


def write_adapters(model: Any, weights: Mapping[str, Tensor]) -> Callable[[Transaction], None]:
    """Give a function that puts the adapters of a model into a save, as peft's `save_pretrained` writes them."""

    def write(transaction: Transaction) -> None:
        if isinstance(model, AdapterMixin):
            model._write_adapter(transaction, weights or None)
        elif weights:
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder, state_dict=dict(weights))
                for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                    transaction.write(path.relative_to(folder).as_posix(), path.read_bytes())

    return write


def pick_trained(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pick what training changes, for a run to go on from: what is trained, and buffers."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    names += [name for name, _ in model.named_buffers()]
    return {name: weights[name].detach().contiguous().clone() for name in names if name in weights}
