"""`try_out`: what a model makes of one input, by the pipeline that fits it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.errors import InputError
from maquette.workshop.targets import open_target

RATE = 16000  # of the sound that is made where none is given, samples a second


@dataclass(frozen=True)
class FirstLook:
    """What came out.

    Attributes:
        target, task: of what, and by which pipeline.
        given: what went in; what was made up is described.
        answer: in the form that the pipeline gives.
    """

    target: str
    task: str
    given: str
    answer: Any

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain data."""
        return dict(vars(self))


def open_pipeline(
    target: str | os.PathLike[str],
    *,
    task: str | None = None,
    trust_remote_code: bool | str | None = None,
    **places: Any,
) -> Any:
    """Load a folder or a repository with the pipeline that fits it.

    Raises:
        InputError: there are no weights to try.
        MaquetteError: there is no such target; see `open_target`.
    """
    from maquette.pipelines.tasks import pipeline  # brings torch

    auto_class = None
    if task is not None:
        from maquette.pipelines.tasks import task_class

        auto_class = next(iter(task_class(task).auto_classes), None)
    found = open_target(target, auto_class=auto_class, trust_remote_code=trust_remote_code, **places)
    if not found.has_weights:
        raise InputError(f"{found.name!r} has no weights, so there is nothing to try: train it and save it first.")
    return pipeline(task, model=found.place, trust_remote_code=trust_remote_code, **places)


def has_chat(pipe: Any) -> bool:
    """Tell whether a pipeline answers conversations."""
    return pipe.task == "text-generation" and bool(getattr(pipe.tokenizer, "chat_template", None))


def try_out(
    target: str | os.PathLike[str],
    given: Any = None,
    *,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    trust_remote_code: bool | str | None = None,
    **places: Any,
) -> FirstLook:
    """Give one input to a model, for a first look.

    Args:
        target: a folder or a repository with weights, and with the tokenizer or processor that belongs to them.
        given: a text, or the place of an image or a sound; unless given, one is made up. A decoder with a chat template
            takes it as what a user says.
        task: of the pipeline; unless given, what the model was made for.
        options: of the pipeline's call, such as `max_new_tokens` or `top_k`.
        trust_remote_code, places: as in `open_target`.

    Raises:
        InputError: there are no weights, or a part that the pipeline needs is missing.
        MaquetteError: there is no such target; see `open_target`.
    """
    pipe = open_pipeline(target, task=task, trust_remote_code=trust_remote_code, **places)
    return look(pipe, os.fspath(target), given, options or {})


def look(pipe: Any, name: str, given: Any, options: Mapping[str, Any]) -> FirstLook:
    """Give one input to a pipeline."""
    value, said = (given, str(given)) if given is not None else _make_up(pipe)
    if has_chat(pipe) and isinstance(value, str):
        conversation = pipe([{"role": "user", "content": value}], **options)[0]["generated_text"]
        return FirstLook(name, pipe.task, said, conversation[-1]["content"])
    return FirstLook(name, pipe.task, said, pipe(value, **options))


def _make_up(pipe: Any) -> tuple[Any, str]:
    """Give an input of the kind that a pipeline takes, and say what it is."""
    if "image_processor" in pipe.needs:
        side = np.linspace(0, 255, 64)
        image = np.stack(np.broadcast_arrays(side[:, None], side[None], 128.0), axis=-1).astype(np.uint8)
        return image, "an image of two colours that fade into each other, 64 × 64"
    if "feature_extractor" in pipe.needs:
        rate = getattr(pipe.feature_extractor, "sampling_rate", RATE)
        tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
        return {"array": tone, "sampling_rate": rate}, "a tone of 440 Hz, one second"
    text = "Once upon a time there was"
    if pipe.task == "fill-mask":
        text = f"Once upon a {pipe.tokenizer.mask_token}"
    return text, text
