"""What a run was begun with that its checkpoints go on with: optimizer, schedule, and what the best model is."""

import json
import math
import warnings
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from maquette.errors import CheckpointError, bullets
from maquette.storage.json_values import to_plain
from maquette.training.arguments import TrainingArguments

# How an optimizer computes, which changes with the device; and how far a schedule is.
_NOT_CHOSEN = {"params", "fused", "foreach", "capturable", "differentiable", "base_lrs", "last_epoch", "T_cur", "T_i"}
_NOT_CHOSEN |= {"_last_lr", "_step_count", "_is_initial", "_get_lr_called_within_step"}
OF_THE_BEST = ("metric_for_best_model", "greater_is_better")
OF_THE_SCHEDULE = ("lr_scheduler_type", "warmup_steps")


def describe_settings(
    args: TrainingArguments, optimizer: Optimizer, schedule: Any, *, is_own_schedule: bool
) -> dict[str, Any]:
    """Give as plain data what an optimizer and a schedule are set to at the beginning of a run.

    Args:
        args: of the run.
        optimizer: as it was made.
        schedule: as it was made.
        is_own_schedule: whether the arguments decided its form.
    """
    groups = [{**group, "learning_rate": group.get("initial_lr", group["lr"])} for group in optimizer.param_groups]
    groups = [{name: value for name, value in group.items() if name not in ("lr", "initial_lr")} for group in groups]
    described = {"optimizer": type(optimizer).__name__, "groups": groups, "schedule": type(schedule).__name__}
    described["schedule_state"] = schedule.state_dict()
    names = (*(OF_THE_SCHEDULE if is_own_schedule else ()), *(OF_THE_BEST if args.eval_strategy != "no" else ()))
    described |= {name: getattr(args, name) for name in names}
    return json.loads(json.dumps(to_plain(_chosen(described), "settings", lambda value, _: type(value).__name__)))


def _chosen(value: Any) -> Any:
    """Leave out what nobody chooses."""
    if isinstance(value, Mapping):
        return {name: _chosen(item) for name, item in value.items() if name not in _NOT_CHOSEN}
    return [_chosen(item) for item in value] if isinstance(value, list | tuple) else value


def list_changes(was: Any, now: Any, name: str = "") -> list[str]:
    """Say what two descriptions differ in, as `learning_rate was 0.1, is 0.2`."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        found = [list_changes(was[key], now[key], key) for key in now if key in was]
    elif _are_several(was) and _are_several(now) and len(was) == len(now):
        found = [list_changes(one, other, name) for one, other in zip(was, now, strict=True)]
    else:
        same = was == now or (isinstance(was, float) and isinstance(now, float) and math.isnan(was) and math.isnan(now))
        found = [[] if same else [f"{name} was {was!r}, is {now!r}"]]
    return list(dict.fromkeys(line for lines in found for line in lines))


def _are_several(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def check_changes(was: Mapping[str, Any], now: Mapping[str, Any], *, on_change: str, label: str) -> list[str]:
    """Give what changed since a checkpoint, where that is to be taken over.

    Raises:
        CheckpointError: it is not, or another optimizer is to go on with the state of this one.
    """
    if was.get("optimizer", now["optimizer"]) != now["optimizer"]:
        raise CheckpointError(
            f"{label} holds the state of {was['optimizer']}, which {now['optimizer']} cannot go on with. Begin anew "
            "from its weights."
        )
    if len(was["groups"]) != len(now["groups"]):  # an error to come, which knows the parameters
        return []
    changes = list_changes(was, now)
    if changes and on_change != "new":
        raise CheckpointError(
            f"{label} was trained with other settings than it is to go on with:{bullets(changes)}\nGive it those it "
            "had, or take the new ones from this step on with TrainingArguments(on_change='new')."
        )
    return changes


class NewSettings:
    """The settings of an optimizer as they are when its schedule has gone some steps, to be put into one that resumes.

    A schedule made anew is brought to where it would be if the run had been begun with it.
    """

    def __init__(self, optimizer: Optimizer, schedule: Any, *, steps: int) -> None:
        before = [_values(group) for group in optimizer.param_groups]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch misses the steps of the optimizer
            for _ in range(steps):
                schedule.step()
        self._groups = [_values(group) for group in optimizer.param_groups]
        self._moved = [{n for n in new if new[n] != old.get(n)} for old, new in zip(before, self._groups, strict=True)]

    def put_into(self, optimizer: Optimizer, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Set what differs between two descriptions, and what the schedule sets."""
        places = zip(optimizer.param_groups, self._groups, self._moved, was["groups"], now["groups"], strict=True)
        for group, new, moved, old_choice, choice in places:
            changed = {name for name in choice if list_changes(old_choice.get(name), choice[name])}
            for name in {"lr", "initial_lr", *moved, *changed} & new.keys():
                group[name] = new[name]


def _values(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}
