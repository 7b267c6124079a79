"""A step of generating, one token for each row, as one compiled function: what a call's Python costs is paid once.

    model.generate(prompts, compile_config={})        # or {"backend": …, "mode": …}, as `torch.compile` takes them

The model's own `forward` is compiled, with a cache whose tensors keep their shapes: all slots are computed, those too
that no row has at the moment, and where a row's tokens lie is a tensor. Prompts and drafts are read as without it, and
so is all where hidden states or attentions are wanted.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from maquette.errors import ConfigurationError, InputError, did_you_mean
from maquette.generation.open_cache import OpenCache
from maquette.generation.reading import CachedReader, Rows

ARGUMENTS = ("backend", "mode", "fullgraph", "dynamic", "options")  # of torch.compile

# The compiled steps of each model, by their arguments: they outlast the call that made them.
_steps: "weakref.WeakKeyDictionary[Any, dict[str, Any]]" = weakref.WeakKeyDictionary()


class CompiledReader(CachedReader):
    """Reads as a `CachedReader` does, a token for each row by a compiled step.

    Args:
        compile_config: arguments of `torch.compile`.

    Raises:
        ConfigurationError: `torch.compile` has no such argument; or the model has an encoder.
    """

    def __init__(self, model: Any, names: Sequence[str], *, compile_config: Mapping[str, Any], **more: Any) -> None:
        super().__init__(model, names, **more)
        if self.prefix:
            raise ConfigurationError("compile_config: steps of models with an encoder are not compiled: leave it out.")
        self.step = _find_step(model, compile_config)

    def read(self, first: int, rows: Rows, *, numbers: Sequence[int], last: int = 1) -> Any:
        """Read new tokens, as `Reader` says."""
        is_step = not (first or self.gives_states) and self.cache.is_begun
        lengths = self.cache.narrow(0, len(rows)).lengths if is_step else []
        if not isinstance(rows, Tensor) or 0 in (lengths or [0]):
            return super().read(first, rows, numbers=numbers, last=last)
        count, layers, states = self.cache.open(len(rows))
        missing = count - len(rows)
        ids = torch.nn.functional.pad(rows, (0, 0, 0, missing))
        positions = torch.tensor(lengths + [0] * missing, device=rows.device)
        options = self.options | ({"logits_to_keep": 1} if self.keeps_logits else {})
        keys, values = [layer.keys for layer in layers], [layer.values for layer in layers]
        with _explain():
            logits = self.step(self.model, ids, positions, keys, values, states, options)
        for slot in range(len(rows), count):
            self.cache.clear(slot)
        return {"logits": logits[: len(rows)]}


def _run_step(
    model: Any,
    ids: Tensor,
    positions: Tensor,
    keys: list[Tensor],
    values: list[Tensor],
    states: list[Tensor],
    options: dict[str, Any],
) -> Tensor:
    """Give logits `(slots, 1, vocabulary)`; memory and states take the tokens in."""
    cache = OpenCache(positions, keys, values, states)
    logits: Tensor = model(input_ids=ids, past_key_values=cache, **options)["logits"]
    return logits[:, -1:]


def _find_step(model: Any, arguments: Mapping[str, Any]) -> Callable[..., Tensor]:
    """Give a model's compiled step; nothing is compiled before its first call."""
    if unknown := [name for name in arguments if name not in ARGUMENTS]:
        raise ConfigurationError(
            f"compile_config holds arguments of torch.compile, {', '.join(ARGUMENTS)}, and {unknown[0]!r} is none."
            f"{did_you_mean(unknown[0], ARGUMENTS)}"
        )
    known, key = _steps.setdefault(model, {}), repr(sorted(arguments.items()))
    if key not in known:  # code of its own, as torch counts how often a function is compiled anew by its code
        own = FunctionType(_run_step.__code__.replace(), globals(), _run_step.__name__)
        known[key] = torch.compile(own, **arguments)
    step: Callable[..., Tensor] = known[key]
    return step


class _explain:  # noqa: N801 - used as a word
    """Says what to do where `torch.compile` fails."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            return
        lines = str(error).strip().splitlines() or [""]
        raise InputError(
            f"compile_config: torch.compile could not build the step ({type(error).__name__}: {lines[0]}). On a CPU it "
            "needs a C++ compiler, g++ or the one that the variable CXX names, and with fullgraph=True a forward that "
            "it understands as a whole. Without compile_config, nothing is compiled."
        ) from None
