"""Decorators from Transformers that concern documentation and calling habits; what they decorate works as it is."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Decorated = TypeVar("Decorated")


def _unchanged(decorated: Decorated) -> Decorated:
    return decorated


def _add(texts: tuple[Any, ...], *, before: bool) -> Callable[[Decorated], Decorated]:
    def decorate(decorated: Decorated) -> Decorated:
        added, own = "".join(map(str, texts)), decorated.__doc__ or ""
        decorated.__doc__ = added + own if before else own + added
        return decorated

    return decorate


def add_start_docstrings(*texts: Any) -> Callable[[Decorated], Decorated]:
    """Put texts before the docstring of a class or function."""
    return _add(texts, before=True)


def add_start_docstrings_to_model_forward(*texts: Any) -> Callable[[Decorated], Decorated]:
    """Put texts before the docstring of a `forward`."""
    return _add(texts, before=True)


def add_end_docstrings(*texts: Any) -> Callable[[Decorated], Decorated]:
    """Put texts behind the docstring of a class or function."""
    return _add(texts, before=False)


def add_code_sample_docstrings(*texts: Any, **settings: Any) -> Callable[[Decorated], Decorated]:
    """Leave the docstring as it is: the samples that belong there are Transformers'."""
    return _unchanged


def replace_return_docstrings(output_type: Any = None, config_class: Any = None) -> Callable[[Decorated], Decorated]:
    """Leave the docstring as it is."""
    return _unchanged


def auto_docstring(decorated: Any = None, **settings: Any) -> Any:
    """Leave the docstring as it is, with or without settings."""
    return _unchanged if decorated is None else decorated


def use_kernel_forward_from_hub(layer_name: str) -> Callable[[Decorated], Decorated]:
    """Leave a layer with the `forward` that is written in it."""
    return _unchanged


def deprecate_kwarg(old_name: str, **settings: Any) -> Callable[[Decorated], Decorated]:
    """Leave a function with the arguments that it names."""
    return _unchanged


def check_model_inputs(function: Any = None, **settings: Any) -> Any:
    """Leave a `forward` as it is, with or without settings."""
    return _unchanged if function is None else function


capture_outputs = check_model_inputs


def use_kernelized_func(*functions: Any) -> Callable[[Decorated], Decorated]:
    """Leave a layer with the functions that are written beside it."""
    return _unchanged


use_kernel_func_from_hub = use_kernelized_func


def merge_with_config_defaults(forward: Any) -> Any:
    """Have a `forward` take `use_cache` from the configuration where the call does not say it."""
    signature = inspect.signature(forward)

    @functools.wraps(forward)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(self, *args, **kwargs)
        if given.arguments.get("use_cache") is None and "use_cache" in signature.parameters:
            given.arguments["use_cache"] = getattr(self.config, "use_cache", None) and not self.training
        return forward(*given.args, **given.kwargs)

    return wrapped


def can_return_tuple(forward: Any) -> Any:
    """Have a `forward` that always gives an output class give a tuple where `return_dict=False` asks for it."""

    @functools.wraps(forward)
    def wrapped(self: Any, *args: Any, return_dict: bool | None = None, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        wanted = self.config.return_dict if return_dict is None else return_dict
        return output if wanted or not hasattr(output, "to_tuple") else output.to_tuple()

    return wrapped


RopeParameters = dict[str, Any]  # a type, for annotations


def rope_config_validation(config: Any, ignore_keys: Any = None) -> None:
    """Accept a configuration; what is wrong with its rotations is an error where frequencies are computed."""
