"""What a call of `generate` or `stream` does: read what is given, make the engine, hand on what it brings."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maquette.errors import ConfigurationError, InputError, did_you_mean
from maquette.generation.beams import Beams, beams_for
from maquette.generation.cache import BLOCK, Cache, as_cache
from maquette.generation.configuration import GenerationConfig
from maquette.generation.drafts import Assistant, PromptLookup
from maquette.generation.engine import Chooser, Drafter, Engine, Prompt, Step
from maquette.generation.processors import processors_for
from maquette.generation.prompts import Prompts, read_prompts
from maquette.generation.reading import ModelReader
from maquette.generation.results import Results
from maquette.generation.sampling import draw_seed
from maquette.generation.setting_rules import as_ids
from maquette.generation.stopping import Ends, criteria_for
from maquette.generation.streaming import RowTexts
from maquette.modeling.interface import Interface
from maquette.modeling.outputs import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput

logger = logging.getLogger(__name__)

ROWS = 64  # continued at the same time, unless `max_rows` says otherwise


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
) -> Any:
    """Do the work of a model's `generate`."""
    task = _Task.of(model, inputs, generation_config, kwargs, tokenizer)
    engine = task.engine(
        criteria=stopping_criteria or (),
        assistant=assistant_model,
        tokenizer=tokenizer,
        custom=logits_processor or (),
        prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
    )
    results = Results(task.prompts, task.config, task.ends, times=task.config.num_return_sequences or 1)
    with _quiet(model), _progress(engine, progress_bar) as show, _hand_on(streamer, task) as hand_on:
        for step in engine.run():
            results.add(step)
            hand_on(step)
            show(step)
    if not task.config.return_dict_in_generate:
        return results.sequences()
    if isinstance(engine, Beams):
        return _beam_output(results, engine)
    found: dict[str, Any] = {"scores": results.scores, "logits": results.logits}
    return GenerateDecoderOnlyOutput(sequences=results.sequences(), past_key_values=task.close(), **found)


def stream(model: Any, inputs: Any, kwargs: dict[str, Any], *, tokenizer: Any, skip_prompt: bool) -> Iterator[Any]:
    """Do the work of a model's `stream`."""
    names = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "assistant_model")
    custom, criteria, allowed, assistant = (kwargs.pop(name, None) for name in names)
    task = _Task.of(model, inputs, kwargs.pop("generation_config", None), kwargs, tokenizer)
    task.refuse_beams("stream")
    engine = task.engine(
        criteria=criteria or (),
        assistant=assistant,
        tokenizer=tokenizer,
        custom=custom or (),
        prefix_allowed_tokens_fn=allowed,
    )
    return _stream_texts(model, task, engine, tokenizer, skip_prompt=skip_prompt)


def _beam_output(results: Results, beams: Beams) -> GenerateBeamDecoderOnlyOutput:
    return GenerateBeamDecoderOnlyOutput(
        sequences=results.sequences(),
        sequences_scores=beams.sequences_scores,
        scores=beams.steps("scores"),
        logits=beams.steps("logits"),
        beam_indices=beams.beam_indices,
    )


def _stream_texts(
    model: Any, task: "_Task", engine: Engine | Beams, tokenizer: Any, *, skip_prompt: bool
) -> Iterator[tuple[int, str]]:
    texts = RowTexts(tokenizer, skip_special_tokens=True)
    for prompt in engine.prompts:
        told = texts.feed(prompt.number, prompt.ids.tolist())
        if told and not skip_prompt:
            yield prompt.number, told
    steps = engine.run()
    while True:
        with _quiet(model):  # not while the caller has its turn
            step = next(steps, None)
        if step is None:
            return
        for event in step.events:
            if text := texts.feed(event.number, event.tokens, is_done=event.is_done):
                yield event.number, text


@contextlib.contextmanager
def _hand_on(streamer: Any, task: "_Task") -> Iterator[Callable[[Step], None]]:
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


class _quiet:  # noqa: N801 - used as a word
    """Puts a model into evaluation mode, without gradients, and back as it was."""

    def __init__(self, model: Any) -> None:
        self.model, self.grad = model, torch.no_grad()

    def __enter__(self) -> None:
        self.training = [module for module in self.model.modules() if module.training]
        if self.training:
            self.model.eval()
        self.grad.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.grad.__exit__(*error)
        for module in self.training:
            module.training = True


@dataclass(eq=False)
class _Task:
    """One call of `generate`, read and checked."""

    model: Any
    config: GenerationConfig
    ends: tuple[int, ...]
    prompts: Prompts
    inputs: dict[str, Tensor]  # what else belongs to each prompt
    options: dict[str, Any]  # arguments of `forward` for every call
    cache: Cache | None  # the caller's, with the beginning of each prompt
    names: tuple[str, ...]  # what `forward` takes
    used: Cache | None = None  # by the call

    @classmethod
    def of(
        cls, model: Any, ids: Any, given: GenerationConfig | None, kwargs: dict[str, Any], tokenizer: Any
    ) -> "_Task":
        """Read the arguments of `generate`; those that are settings overrule the configuration."""
        if model.config.is_encoder_decoder:
            raise NotImplementedError(f"{type(model).__name__}: models with an encoder do not generate yet.")
        if "prepare_inputs_for_generation" in vars(model):  # peft puts one there, which adds trained prompts
            raise NotImplementedError(
                f"{type(model).__name__}.generate: prompts that peft has learnt (prompt and prefix tuning) do not "
                "reach generate. Use an adapter that changes layers, such as LoRA, or call forward yourself."
            )
        settings = {name: kwargs.pop(name) for name in [*kwargs] if GenerationConfig.is_setting(name)}
        config = (given or GenerationConfig()).settle(below=model.generation_config, **settings)
        ends = config.end_tokens(model.generation_config, model.config, tokenizer)
        if (named := kwargs.pop("input_ids", None)) is not None and ids is not None:
            raise InputError("generate got its prompts twice, as `inputs` and as `input_ids`: give one of them.")
        prompts = read_prompts(
            named if ids is None else ids,
            kwargs.pop("attention_mask", None),
            kwargs.pop("inputs_embeds", None),
            pad=config.pad_token_id if config.pad_token_id is not None else model.config.pad_token_id,
            begin=next(iter(as_ids(config.bos_token_id) or as_ids(model.config.bos_token_id)), None),
            ends=ends,
            vocabulary=getattr(model.config, "vocab_size", None),
            device=model.device,
        )
        cache = kwargs.pop("past_key_values", None)
        interface = Interface.of(model, ["labels"])
        inputs, options = _sort_inputs(model, interface, kwargs, len(prompts))
        return cls(model, config, ends, prompts, inputs, options, as_cache(cache), interface.names)

    # Rows ---------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def limits(self) -> list[int]:
        """How many new tokens each prompt gets at most.

        Raises:
            InputError: a prompt is as long as `max_length` already, or longer than the model's positions.
        """
        config, lengths = self.config, self.prompts.lengths
        if config.max_new_tokens is not None:
            limits = [config.max_new_tokens] * len(lengths)
        else:
            limits = [(config.max_length or 0) - length for length in lengths]
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        if min(limits) < 1:
            raise InputError(
                f"max_length={config.max_length} counts the prompt, and that of row {longest} has {lengths[longest]} "
                "tokens: raise it, or set max_new_tokens instead."
            )
        self._check_positions(lengths[longest], limits[longest])
        return limits

    def _check_positions(self, length: int, new: int) -> None:
        most = getattr(self.model.config, "max_position_embeddings", None)
        if not isinstance(most, int) or length + new - 1 <= most:
            return
        is_rotary = any(getattr(self.model.config, name, None) for name in ("rope_theta", "rope_parameters"))
        said = f"A prompt of {length} tokens and {new} new ones are more than the {most} positions of the model"
        if is_rotary:
            logger.warning("%s: what comes beyond has never been trained.", said)
        else:
            raise InputError(f"{said}: shorten the prompt, or set max_new_tokens={max(most - length + 1, 0)} at most.")

    def rows(self) -> list[Prompt]:
        """Give what the engine continues, each prompt as often as it is wanted; beams are its own."""
        times, unread = self.config.num_return_sequences or 1, self.prompts.unread(self.cache)
        times = 1 if self.has_beams else times
        return [
            Prompt(text * times + again, text, self.prompts.ids[text], unread[text])
            for text in range(len(self.prompts))
            for again in range(times)
        ]

    @property
    def has_beams(self) -> bool:
        """Whether it is a beam search."""
        return (self.config.num_beams or 1) > 1

    def refuse_beams(self, what: str) -> None:
        """Refuse what gives tokens as they come.

        Raises:
            InputError: beams are wanted.
        """
        if self.has_beams:
            raise InputError(f"{what} gives tokens as they come, and those of beams are known at the end: num_beams=1.")

    def close(self) -> Cache | None:
        """Give the cache that was used, as a caller goes on with it."""
        if self.used is None or not self.used.is_begun:
            return None
        self.used.width = max(self.used.lengths, default=0)
        return self.used

    # Running --------------------------------------------------------------------------------------------------------

    def engine(self, *, criteria: Sequence[Any], assistant: Any, tokenizer: Any, **custom: Any) -> Engine | Beams:
        """Make what continues the rows.

        Raises:
            ConfigurationError: drafts for beams.
        """
        config, rows = self.config, self.rows()
        seed = None
        if config.do_sample:
            seed = draw_seed() if config.seed is None else config.seed
        processors = processors_for(
            config,
            ends=self.ends,
            vocab_size=getattr(self.model.config, "vocab_size", 0),
            device=self.model.device,
            **custom,
        )
        stops = Ends(self.ends, self.limits, criteria_for(config, tokenizer=tokenizer, custom=criteria))
        drafter = self.drafter(assistant)
        if self.has_beams:
            if drafter is not None:
                raise ConfigurationError("Drafts go with one beam only: leave out num_beams, or the drafts.")
            more: dict[str, Any] = {"processors": processors, "stops": stops, "max_rows": config.max_rows or ROWS}
            return beams_for(config, reader=self.reader(), prompts=rows, seed=seed, **more)
        keeps = self.cache is not None or bool(config.return_dict_in_generate)
        return Engine(
            self.reader(),
            rows,
            choose=Chooser(processors, seed=seed),
            stops=stops,
            max_rows=len(rows) if keeps else config.max_rows or ROWS,
            drafter=drafter,
            keeps_rows=keeps,
            wants=frozenset(name for name in ("scores", "logits") if getattr(config, f"output_{name}")),
        )

    def reader(self) -> ModelReader:
        """Make what runs the model."""
        cache = self.cache
        if cache is None and self.config.use_cache:
            most = max(length + new for length, new in zip(self.prompts.lengths, self.limits, strict=True))
            cache = Cache(reserve=most + BLOCK)
        self.used = cache
        return self._reader(self.model, self.names, cache, inputs=self.inputs, options=self.options)

    def _reader(self, model: Any, names: Sequence[str], cache: Cache | None, **more: Any) -> ModelReader:
        return ModelReader(model, names, cache=cache, device=model.device, **more)

    def drafter(self, assistant: Any) -> Drafter | None:
        """Make what guesses tokens, where that is wanted.

        Raises:
            ConfigurationError: a smaller model of another vocabulary, or prompts that it cannot read.
        """
        config = self.config
        if assistant is not None:
            sizes = [getattr(model.config, "vocab_size", None) for model in (self.model, assistant)]
            if sizes[0] != sizes[1]:
                raise ConfigurationError(
                    f"assistant_model has a vocabulary of {sizes[1]} tokens, and the model one of {sizes[0]}: drafts "
                    "need the same."
                )
            if self.prompts.vectors is not None:
                raise ConfigurationError("assistant_model needs prompts of ids, and these are inputs_embeds.")
            return Assistant(
                self._reader(assistant, Interface.of(assistant, ["labels"]).names, Cache()),
                config.num_assistant_tokens or 0,
                schedule=config.num_assistant_tokens_schedule or "constant",
                threshold=config.assistant_confidence_threshold or 0.0,
            )
        if config.prompt_lookup_num_tokens:
            return PromptLookup(config.prompt_lookup_num_tokens, longest=config.max_matching_ngram_size or 2)
        return None


def _sort_inputs(
    model: Any, interface: Interface, given: Mapping[str, Any], rows: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tell what belongs to each prompt from what holds for every call of `forward`.

    Raises:
        InputError: `forward` takes no such argument.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if "token_type_ids" not in interface.names:  # what tokenizers give in good faith
        given.pop("token_type_ids", None)
    known = {*interface.names, *GenerationConfig._fields()}
    unknown = [name for name in given if name not in interface.names and not interface.takes_any]
    if unknown:
        raise InputError(
            f"{type(model).__name__}.generate has no argument {unknown[0]!r}: it is no setting, and forward does not "
            f"take it.{did_you_mean(unknown[0], known)}"
        )
    inputs = {n: v.to(model.device) for n, v in given.items() if isinstance(v, Tensor) and v.ndim and len(v) == rows}
    return inputs, {name: value for name, value in given.items() if name not in inputs}
