"""A function of one's own in place of the engine: `model.generate(…, custom_generate=f)`."""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maquette.errors import ConfigurationError
from maquette.generation.cache import Cache
from maquette.generation.setting_rules import MOVED
from maquette.generation.stopping import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList, criteria_for
from maquette.modeling.generation_task import Task

USUAL = ("model", "self", "input_ids", "logits_processor", "stopping_criteria", "generation_config", "streamer")


class Own(NamedTuple):
    """What only the function knows: arguments that it names, and settings of ways to generate that we do not have."""

    arguments: dict[str, Any]
    settings: dict[str, Any]


def take_own(function: Any, kwargs: dict[str, Any]) -> Own:
    """Take out of the arguments of `generate` what only the function knows.

    Raises:
        ConfigurationError: it is no function.
    """
    if not callable(function):
        raise ConfigurationError(
            f"custom_generate={function!r}: code of a repository is not fetched by its name. Import its function "
            "`generate`, or write one, and pass that: f(model, input_ids, logits_processor, stopping_criteria, "
            "generation_config, **model_kwargs)."
        )
    settings = {name: kwargs.pop(name) for name in MOVED if name in kwargs}
    names = {*inspect.signature(function).parameters} - {*USUAL, "attention_mask", "past_key_values", "use_cache"}
    return Own({name: kwargs.pop(name) for name in [*kwargs] if name in names}, settings)


def run_function(
    task: Task,
    function: Callable[..., Any],
    own: Own,
    *,
    processors: Any,
    criteria: Sequence[Any],
    tokenizer: Any,
    streamer: Any,
) -> Any:
    """Call it as Transformers does, with rows that are padded on the left; gives what it gives.

    Args:
        own: what only it knows.
        processors: functions on logits, in their order.
        criteria: the caller's own.
    """
    config, rows = task.config, task.rows()
    ids, mask = _pad([row.ids for row in rows], task.pad)
    stops: list[Any] = [MaxLengthCriteria(ids.shape[1] + max(task.limits))]
    if task.ends:
        stops.append(EosTokenCriteria(task.ends))
    index = torch.tensor([row.text for row in rows], device=ids.device)
    more: dict[str, Any] = {name: value[index] for name, value in task.inputs.items()}
    if config.use_cache:
        more["past_key_values"] = task.cache or Cache()
    if streamer is not None:
        more["streamer"] = streamer
    settled = copy.deepcopy(config)
    settled.__dict__.update(own.settings, eos_token_id=[*task.ends] or None, pad_token_id=task.pad)
    return function(
        task.model,
        ids,
        logits_processor=processors,
        stopping_criteria=StoppingCriteriaList([*stops, *criteria_for(config, tokenizer=tokenizer, custom=criteria)]),
        generation_config=settled,
        attention_mask=mask,
        use_cache=bool(config.use_cache),
        **more,
        **task.options,
        **own.arguments,
    )


def _pad(rows: Sequence[Tensor], pad: int) -> tuple[Tensor, Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence([*rows], batch_first=True, padding_value=pad, padding_side="left")
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)[:, None]
    return ids, (torch.arange(-ids.shape[1], 0, device=ids.device) >= -lengths).long()
