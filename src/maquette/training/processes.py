"""The devices and processes that a run has, as `torchrun` or `accelerate launch` started them."""

import atexit
import logging
import os
from typing import Any

import torch

from maquette.errors import ConfigurationError, MissingPackageError
from maquette.training.arguments import TrainingArguments

logger = logging.getLogger(__name__)

COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def make_accelerator(args: TrainingArguments) -> Any:
    """Make the object that knows devices, processes and number types.

    Raises:
        MissingPackageError: accelerate, or a tracker that was asked for, is not installed.
        ConfigurationError: a launcher started several processes, and this one does not get to the others.
    """
    try:
        from accelerate import Accelerator, DistributedType  # type: ignore[import-untyped,import-not-found,unused-ignore]
        from accelerate.state import AcceleratorState, PartialState  # type: ignore[import-untyped,import-not-found,unused-ignore]
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise MissingPackageError("Training needs accelerate: pip install 'maquette[train]'.") from None
    available = [str(getattr(name, "value", name)) for name in get_available_trackers()]
    if missing := [name for name in args.report_to if name not in available]:
        known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
        raise MissingPackageError(
            f"report_to={missing[0]!r}: that tracker is not installed, or accelerate does not know it: it knows "
            f"{known}."
        )
    AcceleratorState._reset_state()  # every trainer chooses its own number type
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else None
    options = {"mixed_precision": precision, "log_with": args.report_to or None, "project_dir": args.output_dir}
    launched, is_first = count_launched(), not PartialState._shared_state
    made = Accelerator(**options)
    if launched > 1 and made.num_processes == 1 and is_first and not _has_gpu():
        # accelerate only joins processes on the CPU where ACCELERATE_USE_CPU says so
        AcceleratorState._reset_state(reset_partial_state=True)
        made = Accelerator(cpu=True, **options)
        atexit.register(_leave)
    _check_world(launched, made.num_processes, is_first=is_first)
    if made.distributed_type == DistributedType.FSDP and not made.is_fsdp2:
        raise ConfigurationError("FSDP was launched in its first version: launch it with --fsdp_version 2.")
    return made


def count_launched() -> int:
    """Give how many processes a launcher says it started."""
    found = next((os.environ[name] for name in COUNTS if os.environ.get(name, "").isdigit()), None)
    if found is None and {"MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"} <= os.environ.keys():
        logger.warning(
            "`accelerate launch --cpu` started one process, though it was asked for several. `torchrun "
            "--nproc_per_node N` starts several on a CPU."
        )
    return int(found or 1)


def _has_gpu() -> bool:
    """Tell whether there is a device on which accelerate distributes."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device is not None and device.type != "mps"


def _check_world(launched: int, joined: int, *, is_first: bool) -> None:
    if launched == joined or launched == 1:
        return
    advice = "Launch it with torchrun or accelerate launch, which set LOCAL_RANK, RANK, MASTER_ADDR and MASTER_PORT"
    if not is_first:
        advice = "An Accelerator was made before the Trainer. Make the Trainer first, or set ACCELERATE_USE_CPU=1"
    raise ConfigurationError(
        f"The launcher's variables say that there are {launched} processes, but this one joined {joined - 1} others, "
        f"so that each would train alone into the same folder. {advice}."
    )


def _leave() -> None:
    """Leave the other processes in order; threads that stay behind can abort an interpreter that ends."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
