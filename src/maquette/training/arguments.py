"""`TrainingArguments`: how to train, checked when it is said."""

import os
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from maquette.configuration.schema import Fault, FaultError, Field, annotated_fields, attempt
from maquette.errors import did_you_mean
from maquette.storage.json_values import own_copy
from maquette.storage.paths import user_path

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0)]
Schedule = Literal["linear", "cosine", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"]
# A metric whose name ends so is better where it is smaller.
_SMALLER_IS_BETTER = ("loss", "error", "perplexity", "wer", "cer", "mse", "mae")
# Where to find what is an argument elsewhere.
_ELSEWHERE = {
    **dict.fromkeys(
        ("adam_beta1", "adam_beta2", "adam_epsilon", "optim"),
        "Pass Trainer(optimizers=(an optimizer, None)), or override create_optimizer.",
    ),
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "ddp_backend"), "Choose it with `accelerate launch`."),
    **dict.fromkeys(("use_cpu", "no_cuda"), "Set the environment variable ACCELERATE_USE_CPU=1."),
    "warmup_ratio": "warmup_steps below 1 is a share of all steps.",
    "evaluation_strategy": "It is called eval_strategy.",
    "logging_strategy": "It is every logging_steps steps, and at the end.",
    "overwrite_output_dir": "Checkpoints of an earlier run are only overwritten by those of the same step.",
    "resume_from_checkpoint": "Pass it to Trainer.train.",
    **dict.fromkeys(
        ("predict_with_generate", "generation_max_length", "generation_num_beams", "generation_config"),
        "It is an argument of Seq2SeqTrainingArguments, for Seq2SeqTrainer.",
    ),
    "sortish_sampler": "Set group_by_length=True.",
    "push_to_hub": "Call trainer.model.push_to_hub(…) when it is trained.",
    "logging_nan_inf_filter": "Losses are logged as they are; on_nan says what happens where one is NaN.",
    "data_seed": "The order of the data follows from seed.",
    "full_determinism": "On a CPU every run is; for CUDA call torch.use_deterministic_algorithms(True).",
}


class TrainingArguments:
    """How to train. A misspelt name or a wrong value is an error, when it is made and when it is set later.

    Args:
        output_dir: where checkpoints, `log.jsonl` and the report go.
        per_device_train_batch_size, per_device_eval_batch_size: rows of a batch, in each process.
        gradient_accumulation_steps: batches that make one step. Its gradient is that of one large batch.
        num_train_epochs: how often to go through the data; 2.5 stops in the middle.
        max_steps: how many optimizer steps instead; needed where the length of the data is not known.
        learning_rate, lr_scheduler_type: the highest rate, and how it falls from there.
        warmup_steps: steps in which it rises from 0; below 1, the share of all steps.
        weight_decay: AdamW's (Loshchilov & Hutter 2019), not for norms, biases and other vectors.
        max_grad_norm: longer gradients are scaled down to it; 0 leaves them.
        on_nan: what a loss that is NaN or infinite leads to: "warn" (once), "stop" (with `NonFiniteError`, before the
            weights take it; a gradient counts too, where `max_grad_norm` is on and `fp16` off), or "ignore".
        bf16, fp16: compute in this type, and keep the weights in theirs.
        torch_compile, gradient_checkpointing: compile the model; recompute activations to save memory.
        seed: of the data's order and augmentation, and of everything else random once training begins.
        logging_steps: steps between two entries of the log.
        eval_strategy, eval_steps: "steps" (every `eval_steps`, or `logging_steps`), "epoch" or "no".
        save_strategy, save_steps: the same for checkpoints; "best" for those only whose metric was the best so far.
        save_total_limit: how many checkpoints to keep; the best one stays.
        load_best_model_at_end: keep the best one, and put its weights into the model when training ends.
        metric_for_best_model, greater_is_better: what best means; unless given, the smallest loss.
        group_by_length: batches of rows of similar lengths, in random order.
        dataloader_num_workers: processes that read data.
        remove_unused_columns: keep from the model the columns it does not take.
        label_names: the columns that hold labels; unless given, found in the signature of `forward`, or `labels`.
        report_to: trackers of accelerate, such as `["tensorboard", "wandb"]`.
        disable_tqdm: no progress bar.
        on_change: what resuming with another learning rate, schedule, or setting of the optimizer does: "error" names
            both values, "new" takes the new ones from there on.

    Raises:
        ConfigurationError: listing every argument that is wrong; `UnknownFieldError` for names that do not exist.
    """

    output_dir: str = "trainer_output"
    per_device_train_batch_size: Count = 8
    per_device_eval_batch_size: Count = 8
    gradient_accumulation_steps: Count = 1
    num_train_epochs: Annotated[float, msgspec.Meta(gt=0)] = 3.0
    max_steps: Annotated[int, msgspec.Meta(ge=-1)] = -1
    learning_rate: Share = 5e-5
    lr_scheduler_type: Schedule = "linear"
    warmup_steps: Share = 0.0
    weight_decay: Share = 0.0
    max_grad_norm: Share = 1.0
    on_nan: Literal["warn", "stop", "ignore"] = "warn"
    bf16: bool = False
    fp16: bool = False
    torch_compile: bool = False
    gradient_checkpointing: bool = False
    seed: Annotated[int, msgspec.Meta(ge=0)] = 42
    logging_steps: Count = 500
    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    eval_steps: Count | None = None
    save_strategy: Literal["no", "steps", "epoch", "best"] = "steps"
    save_steps: Count = 500
    save_total_limit: Count | None = None
    load_best_model_at_end: bool = False
    metric_for_best_model: str = "loss"
    greater_is_better: bool | None = None
    group_by_length: bool = False
    dataloader_num_workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    remove_unused_columns: bool = True
    label_names: list[str] | None = None
    report_to: list[str] = []  # noqa: RUF012 - a field's default: everyone gets their own
    disable_tqdm: bool = False
    on_change: Literal["error", "new"] = "error"

    _fields: ClassVar[dict[str, Field]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._fields = {**cls._fields, **annotated_fields(cls)}

    def __init__(self, output_dir: str | os.PathLike[str] = "trainer_output", **given: Any) -> None:
        given = {"output_dir": output_dir, **given}
        faults = [_unknown(name, self._fields) for name in given.keys() - self._fields.keys()]
        for name, field in self._fields.items():
            self.__dict__[name] = attempt(faults, f".{name}", self._checked, name, given.get(name, field.default))
        faults += () if faults else self._contradictions()
        if faults:
            raise FaultError(*faults).as_error(type(self).__name__)

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            if name not in self._fields:
                raise FaultError(_unknown(name, self._fields))
            value = self._checked(name, value)
        except FaultError as failure:
            raise failure.as_error(type(self).__name__, field=name) from None
        self.__dict__[name] = value

    def _checked(self, name: str, value: Any) -> Any:
        if name == "output_dir" and isinstance(value, str | os.PathLike):
            value = os.fspath(user_path(value))
        if name == "report_to" and isinstance(value, str):
            value = [] if value == "none" else [value]
        return self._fields[name].check(own_copy(value))

    def _contradictions(self) -> list[Fault]:
        """Find what does not go together."""
        keeps_best = self.load_best_model_at_end or self.save_strategy == "best"
        rules = {
            ".fp16": (self.bf16 and self.fp16, "and bf16 exclude each other: set one of them"),
            ".warmup_steps": (
                self.warmup_steps > 0 and self.lr_scheduler_type == "constant",
                "has no meaning with lr_scheduler_type='constant': use 'constant_with_warmup'",
            ),
            ".eval_strategy": (
                keeps_best and self.eval_strategy == "no",
                "is 'no', and without evaluation there is no best model: set it to 'steps' or 'epoch'",
            ),
            ".save_strategy": (
                self.load_best_model_at_end and self.save_strategy == "no",
                "is 'no', and load_best_model_at_end needs a checkpoint of the best: set it to 'best'",
            ),
            ".max_steps": (self.max_steps == 0, "is 0: give a number of steps, or -1 for num_train_epochs"),
        }
        return [Fault(name, reason) for name, (wrong, reason) in rules.items() if wrong]

    @property
    def best_is_greater(self) -> bool:
        """Whether a greater value of the metric is better: as said, or by its name."""
        if self.greater_is_better is not None:
            return self.greater_is_better
        return not self.metric_for_best_model.endswith(_SMALLER_IS_BETTER)

    def warm_up(self, steps: int) -> int:
        """Give how many of `steps` the learning rate rises in."""
        if self.warmup_steps >= 1:
            return int(self.warmup_steps)
        return -int(-self.warmup_steps * steps // 1)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Give the value of every argument that is not given, as plain data."""
        return {name: own_copy(field.default) for name, field in cls._fields.items()}

    def to_dict(self) -> dict[str, Any]:
        """Give every argument as plain data."""
        return {name: own_copy(getattr(self, name)) for name in self._fields}

    def for_trackers(self) -> dict[str, Any]:
        """Give every argument as trackers take them: numbers as they are, anything else as text."""
        return {n: value if isinstance(value, int | float) else str(value) for n, value in self.to_dict().items()}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.to_dict() == other.to_dict()  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.to_dict().items() if value != self._fields[name].default)
        return f"{type(self).__name__}({', '.join(shown)})"


TrainingArguments._fields = annotated_fields(TrainingArguments)


def _unknown(name: str, fields: dict[str, Field]) -> Fault:
    advice = f" {_ELSEWHERE[name]}" if name in _ELSEWHERE else did_you_mean(name, fields)
    return Fault("", f"There is no argument {name!r}.{advice}", unknown=True)
