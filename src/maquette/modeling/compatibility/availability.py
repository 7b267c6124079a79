"""Whether packages are there, asked as in Transformers: `is_<name>_available()`."""

import functools
import importlib
import importlib.metadata
import re
from collections.abc import Callable
from typing import Any

from maquette.errors import MissingPackageError
from maquette.remote_code.requirements import is_installed

# What Transformers calls them, where that is not their own name.
PACKAGES = {
    "flash_attn_2": "flash_attn",
    "flash_attn_3": "flash_attn_interface",
    "tf": "tensorflow",
    "torch_fx": "torch",
    "torch_fx_proxy": "torch",
    "torch_sdpa": "torch",
    "torch_flex_attn": "torch",
    "vision": "PIL",
    "opencv": "cv2",
}
DEVICES = {"torch_cuda": "torch.cuda", "torch_mps": "torch.backends.mps", "torch_xpu": "torch.xpu"}


def availability(name: str) -> Callable[..., bool]:
    """Give the function that tells whether a package, or a kind of device of torch's, is there."""

    def is_available(*args: Any, **kwargs: Any) -> bool:
        if name in DEVICES:
            return is_installed("torch") and bool(importlib.import_module(DEVICES[name]).is_available())
        return is_installed(PACKAGES.get(name, name))

    is_available.__name__ = f"is_{name}_available"
    return is_available


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


@functools.cache
def _is_at_least(package: str, version: str) -> bool:
    try:
        return _release(importlib.metadata.version(package)) >= _release(version)
    except importlib.metadata.PackageNotFoundError:
        return False


def is_torch_greater_or_equal(version: str, accept_dev: bool = False) -> bool:
    """Tell whether torch is that new."""
    return _is_at_least("torch", version)


def is_flash_attn_greater_or_equal(version: str) -> bool:
    """Tell whether flash_attn is installed, and that new."""
    return _is_at_least("flash_attn", version)


def is_flash_attn_greater_or_equal_2_10() -> bool:
    """Tell whether flash_attn is installed, and has windows aligned at the bottom right."""
    return _is_at_least("flash_attn", "2.1.0")


is_torch_greater_or_equal_than_1_13 = _is_at_least("torch", "1.13")
is_torch_greater_or_equal_than_2_0 = _is_at_least("torch", "2.0")
is_torch_greater_or_equal_than_2_1 = _is_at_least("torch", "2.1")
is_torch_greater_or_equal_than_2_2 = _is_at_least("torch", "2.2")


def is_torchdynamo_compiling() -> bool:
    """Tell whether torch is compiling right now."""
    return bool(importlib.import_module("torch.compiler").is_compiling()) if is_installed("torch") else False


def requires_backends(owner: Any, backends: str | list[str]) -> None:
    """Refuse to go on without some packages.

    Raises:
        MissingPackageError: naming those that are missing.
    """
    names = [backends] if isinstance(backends, str) else backends
    if missing := [name for name in names if not availability(name)()]:
        raise MissingPackageError(f"{getattr(owner, '__name__', type(owner).__name__)} needs {', '.join(missing)}.")


def require_version(requirement: str, hint: str | None = None) -> None:
    """Refuse to go on with an older version of a package than `"name>=version"` says.

    Raises:
        MissingPackageError: it is not installed, or too old.
    """
    name, _, version = requirement.partition(">=")
    if version and name.strip() != "transformers" and not _is_at_least(name.strip(), version):
        raise MissingPackageError(f"This code requires {requirement}. {hint or ''}".rstrip())
