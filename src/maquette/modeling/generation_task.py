"""One call of `generate`: what it is given, read and checked, and the engine that it needs."""

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from maquette.errors import ConfigurationError, InputError, did_you_mean
from maquette.generation.beams import Beams, beams_for
from maquette.generation.cache import BLOCK, Cache, as_cache
from maquette.generation.configuration import GenerationConfig
from maquette.generation.drafts import Assistant, PromptLookup
from maquette.generation.encoder_inputs import read_decoder_prompts, read_encoder_outputs, read_source
from maquette.generation.engine import Chooser, Drafter, Engine, Prompt, Step
from maquette.generation.guidance import Unprompted
from maquette.generation.logits import LogitsProcessorList
from maquette.generation.processors import processors_for
from maquette.generation.prompts import Prompts, read_prompts
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.reading import ModelReader
from maquette.generation.sampling import draw_seed
from maquette.generation.setting_rules import SPEECH, as_ids
from maquette.generation.step_outputs import NAMES as STATES
from maquette.generation.stopping import Ends, criteria_for
from maquette.modeling.interface import Interface
from maquette.modeling.learned_prompts import LearnedPrompts
from maquette.modeling.token_healing import heal
from maquette.storage.sizes import parse_size

logger = logging.getLogger(__name__)

ROWS = 64  # continued at the same time, unless `max_rows` says otherwise


@dataclass(eq=False)
class Task:
    """One call of `generate`, read and checked."""

    model: Any
    config: GenerationConfig
    ends: tuple[int, ...]
    prompts: Prompts
    inputs: dict[str, Tensor]  # what else belongs to each prompt
    options: dict[str, Any]  # arguments of `forward` for every call
    cache: Cache | None  # the caller's, with the beginning of each prompt
    names: tuple[str, ...]  # what `forward` takes
    negatives: list[Tensor] | None = None  # the prompts that guidance moves away from
    learned: LearnedPrompts | None = None  # what peft puts before them
    has_encoder: bool = False
    texts: list[Tensor] | None = None  # the ids that an encoder reads
    encoded: Any = None  # what it gave, where that is known before the first step
    used: Cache | None = None  # by the call

    @classmethod
    def of(cls, model: Any, ids: Any, given: GenerationConfig | None, kwargs: dict[str, Any], tokenizer: Any) -> "Task":
        """Read the arguments of `generate`; those that are settings overrule the configuration."""
        _check_task(model, given, kwargs)
        settings = {name: kwargs.pop(name) for name in [*kwargs] if GenerationConfig.is_setting(name)}
        if of_speech := [name for name in settings if name in SPEECH]:  # which models of speech take out before
            raise InputError(f"{type(model).__name__}.generate has no argument {of_speech[0]!r}: it hears no speech.")
        config = (given or GenerationConfig()).settle(below=model.generation_config, **settings)
        ends = config.end_tokens(model.generation_config, model.config, tokenizer)
        if (named := kwargs.pop("input_ids", None)) is not None and ids is not None:
            raise InputError("generate got its prompts twice, as `inputs` and as `input_ids`: give one of them.")
        more: dict[str, Any] = {
            "pad": config.pad_token_id if config.pad_token_id is not None else model.config.pad_token_id,
            "ends": ends,
            "vocabulary": getattr(model.config, "vocab_size", None),
            "device": model.device,
        }
        begin = next(iter(as_ids(config.bos_token_id) or as_ids(model.config.bos_token_id)), None)
        if model.config.is_encoder_decoder:
            return cls._of_both(model, named if ids is None else ids, config, kwargs, begin, more)
        read: Any = functools.partial(read_prompts, begin=begin, **more)
        mask, vectors = kwargs.pop("attention_mask", None), kwargs.pop("inputs_embeds", None)
        prompts = read(named if ids is None else ids, mask, vectors)
        if config.token_healing and vectors is None:
            prompts = prompts.replace(heal(model, prompts.ids, tokenizer))
        cache, times = kwargs.pop("past_key_values", None), config.num_return_sequences or 1
        times = 1 if (config.num_beams or 1) > 1 else times
        learned = LearnedPrompts.of(model, prompts, kwargs, times=times)
        if learned is not None:
            learned.check(cache, use_cache=config.use_cache)
        negative, mask = (kwargs.pop(f"negative_prompt_{name}", None) for name in ("ids", "attention_mask"))
        negatives = None if negative is None else read(negative, mask, None).ids
        _check_guidance(config, prompts, negatives)
        interface = Interface.of(model, ["labels"])
        inputs, options = _sort_inputs(model, interface, kwargs, len(prompts))
        return cls(model, config, ends, prompts, inputs, options, as_cache(cache), interface.names, negatives, learned)

    @classmethod
    def _of_both(
        cls, model: Any, given: Any, config: GenerationConfig, kwargs: dict[str, Any], begin: Any, more: dict[str, Any]
    ) -> "Task":
        """Read what an encoder reads, and what its decoder begins with."""
        _check_encoder(model, config)
        cache, interface = as_cache(kwargs.pop("past_key_values", None)), Interface.of(model, ["labels"])
        ids = (each.decoder_start_token_id for each in (config, model.config))
        start = next((each for each in (*ids, begin) if each is not None), None)
        name, encoded = getattr(model, "main_input_name", "input_ids"), kwargs.get("encoder_outputs")
        read, texts = read_source(given, kwargs, name=name, **more)
        prompts = read_decoder_prompts(
            kwargs.pop("decoder_input_ids", None),
            kwargs.pop("decoder_attention_mask", None),
            rows=len(next(iter(read.values()))),
            start=start,
            completes=getattr(model, "_completes_decoder_ids", True),
            **more,
        )
        inputs, options = _sort_inputs(model, interface, kwargs, len(prompts))
        both: dict[str, Any] = {"has_encoder": True, "texts": texts, "encoded": encoded}
        return cls(model, config, more["ends"], prompts, {**read, **inputs}, options, cache, interface.names, **both)

    def encode(self) -> None:
        """Have the encoder read all prompts now, once each, for the sake of its own states."""
        find = getattr(self.model, "get_encoder", None)
        if self.encoded is not None or find is None or "encoder_outputs" not in self.names:
            return
        encoder: Any = find()
        names = Interface.of(encoder, ["labels"]).names
        given = {name: value for name, value in self.inputs.items() if name in names}
        wanted = {f"output_{name}": True for name in STATES if name in self.wants and f"output_{name}" in names}
        self.encoded = encoder(**given, **wanted, **({"return_dict": True} if "return_dict" in names else {}))
        mask = {name: value for name, value in self.inputs.items() if name == "attention_mask" or name not in given}
        self.inputs = {**mask, **read_encoder_outputs(self.encoded, None, self.model.device)}

    def encoder_states(self) -> dict[str, Any]:
        """Give what the encoder gave beside its last states, as far as it is wanted."""
        found = self.encoded if isinstance(self.encoded, Mapping) else {}
        return {f"encoder_{name}": found.get(name) if name in self.wants else None for name in STATES}

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
        self._check_positions(lengths[longest] + (self.learned.length if self.learned else 0), limits[longest])
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
        times = 1 if self.has_beams else self.config.num_return_sequences or 1
        unread = self.learned.unread(self.prompts, self.model) if self.learned else self.prompts.unread(self.cache)
        return [
            Prompt(text * times + again, text, self.prompts.ids[text], unread[text])
            for text in range(len(self.prompts))
            for again in range(times)
        ]

    @property
    def wants(self) -> frozenset[str]:
        """What is kept of each step: scores, logits, states."""
        names = ("scores", "logits", *STATES)
        return frozenset(
            n for n in names if self.config.return_dict_in_generate and getattr(self.config, f"output_{n}")
        )

    @property
    def pad(self) -> int:
        """What stands at padding: the token for it, or the first end token."""
        return next((each for each in (self.config.pad_token_id, *self.ends) if each is not None and each >= 0), 0)

    @property
    def is_at_once(self) -> bool:
        """Whether no row waits, since a cache has something for each of them."""
        return self.cache is not None or bool(self.learned and self.learned.cache)

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
        processors = self.processors(**custom)
        stops = Ends(self.ends, self.limits, criteria_for(config, tokenizer=tokenizer, custom=criteria))
        drafter = self.drafter(assistant)
        if drafter is not None and self.wants & {*STATES}:
            raise ConfigurationError(
                "output_hidden_states and output_attentions are of steps of one token: leave them out, or the drafts."
            )
        if self.has_beams:
            if drafter is not None:
                raise ConfigurationError("Drafts go with one beam only: leave out num_beams, or the drafts.")
            is_at_once = self.is_at_once or self.wants & {*STATES}
            most = len(rows) * (config.num_beams or 1) if is_at_once else config.max_rows or ROWS
            more: dict[str, Any] = {"processors": processors, "stops": stops, "max_rows": most}
            return beams_for(config, reader=self.reader(), prompts=rows, seed=seed, **more)
        keeps = self.is_at_once or bool(config.return_dict_in_generate)
        return Engine(
            self.reader(),
            rows,
            choose=Chooser(processors, seed=seed),
            stops=stops,
            max_rows=len(rows) if keeps else config.max_rows or ROWS,
            drafter=drafter,
            keeps_rows=keeps,
            wants=frozenset({"output" if name in STATES else name for name in self.wants}),
        )

    def steps(self, engine: Engine | Beams) -> Iterator[Step]:
        """Run the engine; where memory is limited, one prompt comes first, and then as many rows as there is room for.

        Raises:
            ConfigurationError: nobody knows what a row takes, or the results need all rows at once.
        """
        if self.config.max_cache_memory is None:
            yield from engine.run()
            return
        budget, most = parse_size(self.config.max_cache_memory, name="max_cache_memory"), engine.max_rows
        if self.is_at_once or self.config.return_dict_in_generate:
            raise ConfigurationError(
                "max_cache_memory has no effect where a cache or all outputs are given back, for all rows together: "
                "leave it out."
            )
        engine.max_rows = 1
        for number, step in enumerate(engine.run()):
            yield step
            if number == 0:
                if self.used is None or not self.used.is_begun:
                    raise ConfigurationError(
                        f"max_cache_memory: {type(self.model).__name__} keeps nothing in a maquette.Cache, so that a "
                        "row's memory is not known. Say max_rows instead."
                    )
                engine.max_rows = min(most, max(1, budget * self.used.rows // self.used.memory_footprint()))

    def processors(self, **custom: Any) -> LogitsProcessorList:
        """Make the functions on logits."""
        return processors_for(
            self.config,
            ends=self.ends,
            vocab_size=getattr(self.model.config, "vocab_size", 0),
            device=self.model.device,
            encoder_input_ids=None if self.texts is None else RaggedIds.of_prompts(self.texts),
            unconditional=self.unprompted(),
            **custom,
        )

    def reader(self) -> ModelReader:
        """Make what runs the model."""
        cache = self.learned.cache if self.learned and self.learned.cache else self.cache
        if cache is None and self.config.use_cache:
            most = max(length + new for length, new in zip(self.prompts.lengths, self.limits, strict=True))
            cache = Cache(reserve=most + (self.learned.length if self.learned else 0) + BLOCK)
        self.used = cache
        options = self.options | {f"output_{name}": True for name in STATES if name in self.wants}
        if missing := [name for name in options if name not in self.names and name not in self.options]:
            raise InputError(f"{missing[0]}=True: {type(self.model).__name__}.forward does not take it.")
        more: dict[str, Any] = {"inputs": self.inputs, "options": options, "chunk": self.config.prefill_chunk_size}
        if self.config.compile_config is not None and not self.config.disable_compile:
            from maquette.generation.compiled_reading import CompiledReader

            more["cached"] = functools.partial(CompiledReader, compile_config=self.config.compile_config)
        return self._reader(self.model, self.names, cache, **more)

    def _reader(self, model: Any, names: Sequence[str], cache: Cache | None, **more: Any) -> ModelReader:
        prefix = "decoder_" if model.config.is_encoder_decoder else ""
        return ModelReader(model, names, cache=cache, device=model.device, prefix=prefix, **more)

    def unprompted(self) -> Unprompted | None:
        """Make what gives scores without the prompts, where `guidance_scale` needs them."""
        if self.config.guidance_scale in (None, 1):
            return None
        cache = Cache() if self.config.use_cache else None
        return Unprompted(self._reader(self.model, self.names, cache, options=self.options), self.negatives)

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
            if self.has_encoder != bool(assistant.config.is_encoder_decoder) or "encoder_outputs" in self.inputs:
                raise ConfigurationError(
                    "assistant_model reads what the model reads: give one with an encoder to a model with an encoder, "
                    "and the encoder's input rather than encoder_outputs."
                )
            if self.prompts.vectors is not None:
                raise ConfigurationError("assistant_model needs prompts of ids, and these are inputs_embeds.")
            return Assistant(
                self._reader(
                    assistant,
                    Interface.of(assistant, ["labels"]).names,
                    Cache(),
                    inputs=self.inputs if self.has_encoder else None,
                ),
                config.num_assistant_tokens or 0,
                schedule=config.num_assistant_tokens_schedule or "constant",
                threshold=config.assistant_confidence_threshold or 0.0,
            )
        if config.prompt_lookup_num_tokens:
            return PromptLookup(config.prompt_lookup_num_tokens, longest=config.max_matching_ngram_size or 2)
        return None


def _check_task(model: Any, given: Any, kwargs: Mapping[str, Any]) -> None:
    """Refuse what is easily taken for something else.

    Raises:
        InputError: naming it.
    """
    name = type(model).__name__
    if given is not None and not isinstance(given, GenerationConfig):
        raise InputError(
            f"generation_config is a {type(given).__name__}: give a maquette.GenerationConfig, or settings by name."
        )
    if any(head in name for head in ("ForMaskedLM", "ForTokenClassification")):
        raise InputError(
            f"{name} scores the tokens that it reads, and does not continue texts: load a model with a head for causal "
            "language modelling."
        )
    if kwargs.get("labels") is not None:
        raise InputError("labels are for training, and generate has no use for them: leave them out.")
    if kwargs.get("decoder_inputs_embeds") is not None:
        raise InputError("In generate, a decoder begins with ids: decoder_input_ids, not decoder_inputs_embeds.")


def _check_encoder(model: Any, config: GenerationConfig) -> None:
    """Refuse what only decoders alone do.

    Raises:
        ConfigurationError: naming it.
    """
    if config.guidance_scale not in (None, 1):
        raise ConfigurationError("guidance_scale compares with a decoder without its prompt; this one has an encoder.")
    if "prepare_inputs_for_generation" in vars(model):  # peft puts one there, which adds trained prompts
        raise ConfigurationError(
            f"{type(model).__name__}.generate: prompts that peft has learnt (prompt and prefix tuning) do not reach "
            "models with an encoder. Use an adapter that changes layers, such as LoRA, or call forward yourself."
        )


def _check_guidance(config: GenerationConfig, prompts: Prompts, negatives: Sequence[Tensor] | None) -> None:
    """Say what is missing for guidance, or in excess.

    Raises:
        InputError: negative prompts that do not belong to the prompts; or vectors, and none of them.
    """
    is_guided = config.guidance_scale not in (None, 1)
    if negatives is not None and not is_guided:
        logger.warning("negative_prompt_ids has no effect without guidance_scale, which says how far to move away.")
    if negatives is not None and len(negatives) not in (1, len(prompts)):
        raise InputError(
            f"negative_prompt_ids has {len(negatives)} rows, and there are {len(prompts)} prompts: give one for each, "
            "or one for all."
        )
    if is_guided and negatives is None and any(not len(ids) for ids in prompts.ids):
        raise InputError(
            "guidance_scale with inputs_embeds needs negative_prompt_ids: there are no tokens to begin with."
        )


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
