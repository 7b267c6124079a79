"""What a call of `generate` or `stream` does: read what is given, make the engine, hand on what it brings."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from maquette.errors import InputError
from maquette.generation.beams import Beams
from maquette.generation.configuration import GenerationConfig
from maquette.generation.engine import Engine, Step
from maquette.generation.results import Results
from maquette.generation.step_outputs import CROSS
from maquette.generation.step_outputs import NAMES as STATES
from maquette.generation.streaming import RowTexts
from maquette.modeling.custom_generation import run_function, take_own
from maquette.modeling.encoder_decoder_outputs import GenerateBeamEncoderDecoderOutput, GenerateEncoderDecoderOutput
from maquette.modeling.generation_mode import GenerationMode
from maquette.modeling.generation_task import Task
from maquette.modeling.outputs import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput


def generate(
    model: Any,
    inputs: Any,
    generation_config: GenerationConfig | None,
    kwargs: dict[str, Any],
    *,
    logits_processor: Sequence[Any] | None,
    stopping_criteria: Sequence[Any] | None,
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None,
    assistant_model: Any,
    streamer: Any,
    tokenizer: Any,
    progress_bar: bool | None,
    custom_generate: Callable[..., Any] | None = None,
) -> Any:
    """Do the work of a model's `generate`."""
    own = None if custom_generate is None else take_own(custom_generate, kwargs)
    task = Task.of(model, inputs, generation_config, kwargs, tokenizer)
    if custom_generate is not None and own is not None:
        processors = task.processors(custom=logits_processor or (), prefix_allowed_tokens_fn=prefix_allowed_tokens_fn)
        more = {"criteria": stopping_criteria or (), "tokenizer": tokenizer, "streamer": streamer}
        with GenerationMode(model, low_memory=task.config.low_memory):
            return run_function(task, custom_generate, own, processors=processors, **more)
    if task.has_encoder and task.wants & {*STATES}:
        with GenerationMode(model):
            task.encode()
    engine = task.engine(
        criteria=stopping_criteria or (),
        assistant=assistant_model,
        tokenizer=tokenizer,
        custom=logits_processor or (),
        prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
    )
    results = Results(task.prompts, pad=task.pad, times=task.config.num_return_sequences or 1)
    mode = GenerationMode(model, low_memory=task.config.low_memory)
    with mode, _progress(engine, progress_bar) as show, _hand_on(streamer, task) as hand_on:
        for step in task.steps(engine):
            results.add(step)
            hand_on(step)
            show(step)
    if not task.config.return_dict_in_generate:
        return results.sequences()
    if isinstance(engine, Beams):
        return _beam_output(results, engine, task)
    found: dict[str, Any] = {task.has_encoder * "decoder_" + name: results.states(name) for name in STATES}
    if task.has_encoder:
        found |= {CROSS: results.states(CROSS), **task.encoder_states()}
    found |= {"scores": results.scores, "logits": results.logits}
    kind = GenerateEncoderDecoderOutput if task.has_encoder else GenerateDecoderOnlyOutput
    return kind(sequences=results.sequences(), past_key_values=task.close(), **found)


def stream(model: Any, inputs: Any, kwargs: dict[str, Any], *, tokenizer: Any, skip_prompt: bool) -> Iterator[Any]:
    """Do the work of a model's `stream`."""
    names = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "assistant_model")
    custom, criteria, allowed, assistant = (kwargs.pop(name, None) for name in names)
    task = Task.of(model, inputs, kwargs.pop("generation_config", None), kwargs, tokenizer)
    task.refuse_beams("stream")
    engine = task.engine(
        criteria=criteria or (),
        assistant=assistant,
        tokenizer=tokenizer,
        custom=custom or (),
        prefix_allowed_tokens_fn=allowed,
    )
    return _stream_texts(model, task, engine, tokenizer, skip_prompt=skip_prompt)


def _beam_output(results: Results, beams: Beams, task: Task) -> Any:
    kind = GenerateBeamEncoderDecoderOutput if task.has_encoder else GenerateBeamDecoderOnlyOutput
    found: dict[str, Any] = {task.has_encoder * "decoder_" + name: beams.states(name) for name in STATES}
    if task.has_encoder:
        found |= {CROSS: beams.states(CROSS), **task.encoder_states()}
    return kind(
        sequences=results.sequences(),
        sequences_scores=beams.sequences_scores,
        scores=beams.steps("scores"),
        logits=beams.steps("logits"),
        beam_indices=beams.beam_indices,
        **found,
    )


def _stream_texts(
    model: Any, task: Task, engine: Engine | Beams, tokenizer: Any, *, skip_prompt: bool
) -> Iterator[tuple[int, str]]:
    texts = RowTexts(tokenizer, skip_special_tokens=True)
    for prompt in engine.prompts:
        told = texts.feed(prompt.number, prompt.ids.tolist())
        if told and not skip_prompt:
            yield prompt.number, told
    steps, mode = task.steps(engine), GenerationMode(model, low_memory=task.config.low_memory)
    while True:
        with mode:  # not while the caller has its turn
            step = next(steps, None)
        if step is None:
            return
        for event in step.events:
            if text := texts.feed(event.number, event.tokens, is_done=event.is_done):
                yield event.number, text


@contextlib.contextmanager
def _hand_on(streamer: Any, task: Task) -> Iterator[Callable[[Step], None]]:
    """Give a streamer the prompt, then tokens as they come, then the end.

    Raises:
        InputError: there are several prompts; `stream` takes them. Or beams, which are only known at their end.
    """
    if streamer is None:
        yield lambda step: None
        return
    task.refuse_beams("A streamer")
    if len(task.prompts) > 1:
        raise InputError("A streamer takes one prompt; model.stream(…) gives (row, text) for a whole batch.")
    streamer.put(task.prompts.columns.cpu())

    def put(step: Step) -> None:
        for token in step.events[0].tokens:
            streamer.put(torch.tensor([token]))

    yield put
    streamer.end()


@contextlib.contextmanager
def _progress(engine: Engine | Beams, wanted: bool | None) -> Iterator[Callable[[Step], None]]:
    """Show how many rows are done: where that is wanted or, unless said, in a terminal where rows have to wait."""
    rows = len(engine.prompts) * (engine.sequences if isinstance(engine, Beams) else 1)
    if wanted is False or (wanted is None and rows <= engine.max_rows):
        yield lambda step: None
        return
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    with tqdm(total=rows, unit="row", disable=None if wanted is None else False) as bar:

        def show(step: Step) -> None:
            bar.update(sum(event.is_done for event in step.events))

        yield show
