"""Texts and conversations, continued."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maquette.errors import InputError
from maquette.generation.configuration import GenerationConfig
from maquette.generation.setting_rules import LENGTHS, SAMPLING, as_ids
from maquette.pipelines.texts import TextPipeline

# What counts where neither the caller nor the model's file says anything, as in Transformers.
DEFAULTS: dict[str, Any] = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
# What else `generate` takes for a call.
ARGUMENTS = {"generation_config", "logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn"}
ARGUMENTS |= {"assistant_model", "streamer", "progress_bar"}
EARLY = {"stop_strings", "max_time", "stopping_criteria"}  # what ends a row before its last possible token
Messages = list[dict[str, Any]]


@dataclass(kw_only=True)
class GenerationOptions:
    """Options of text generation, besides all settings of `generate`.

    Attributes:
        return_full_text: give the prompt with what follows it.
        return_tensors: give ids instead of a text, under `generated_token_ids`.
        return_text: give the text; said for the sake of code that says it.
        clean_up_tokenization_spaces, skip_special_tokens: as in `decode`.
        prefix: put before each text, and not given back.
        stop_sequence: one text or several, after which to stop.
        handle_long_generation: "hole" cuts prompts at their beginning where they leave no room for what is asked.
        continue_final_message: go on with a conversation's last message; so it is where that is the assistant's.
        add_special_tokens, truncation, padding, tokenizer_encode_kwargs: for the tokenizer; unless said, a text that
            has its begin token gets no second one.
        tools, documents: for the chat template.
        generate_kwargs: settings of `generate`, as a dictionary.
        set_apart: those that were given by their own names.
    """

    return_full_text: bool | None = None
    return_tensors: bool | None = None
    return_text: bool | None = None
    clean_up_tokenization_spaces: bool | None = None
    skip_special_tokens: bool = True
    prefix: str | None = None
    stop_sequence: str | Sequence[str] | None = None
    handle_long_generation: str | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = None
    truncation: bool | str | None = None
    padding: bool | str | None = None
    tokenizer_encode_kwargs: dict[str, Any] = field(default_factory=dict)
    tools: Any = None
    documents: Any = None
    generate_kwargs: dict[str, Any] = field(default_factory=dict)
    set_apart: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.return_full_text is not None and (self.return_text or self.return_tensors):
            raise InputError("return_full_text says what the text is: leave out return_text and return_tensors.")
        if self.return_text and self.return_tensors:
            raise InputError("return_text and return_tensors exclude each other.")
        if self.handle_long_generation not in (None, "hole"):
            raise InputError(f"handle_long_generation={self.handle_long_generation!r}: 'hole' is the one way there is.")


class TextGenerationPipeline(TextPipeline):
    """Continues a text or a conversation: `[{"generated_text": "…"}]`.

    For a conversation, messages with a role and content, the text is the conversation with the answer. A list of either
    has a list for each. All settings of `generate` may be passed; all prompts of a list are one call of it. With
    `return_dict_in_generate`, what else it gives for each row stands in its record: scores and logits, as lists.
    """

    task = "text-generation"
    auto_classes = ("AutoModelForCausalLM",)
    options_class = GenerationOptions
    ahead = 1024

    def further_options(self) -> set[str]:
        """Name the settings and arguments of `generate`."""
        return ARGUMENTS | {*GenerationConfig._fields()}

    def settle(self, options: Mapping[str, Any]) -> GenerationOptions:
        """Check the options; settings of `generate` are set apart."""
        passed = {n: value for n, value in options.items() if n in ARGUMENTS or GenerationConfig.is_setting(n)}
        settled: GenerationOptions = super().settle({n: v for n, v in options.items() if n not in passed})
        settled.set_apart = {**settled.generate_kwargs, **passed}
        if settled.stop_sequence is not None:
            stops = settled.stop_sequence
            settled.set_apart["stop_strings"] = [stops] if isinstance(stops, str) else list(stops)
        return settled

    def is_single(self, inputs: Any) -> bool:
        """Tell a text or a conversation from several."""
        return isinstance(inputs, str) or _messages(inputs) is not None

    def _answers(self, items: Iterable[Any], options: Any, size: int | None, ahead: int) -> Iterator[Any]:
        waiting = iter(items)
        while stretch := list(itertools.islice(waiting, ahead)):
            yield from self._continue(stretch, options, size)

    def _continue(self, items: list[Any], options: GenerationOptions, size: int | None) -> Iterator[list[Any]]:
        """Continue prompts in one call of `generate`."""
        prompts = [self._ids(item, options) for item in items]
        settings = self._settings(options, max(map(len, prompts)))
        self._count_prefix(items, options, settings)
        if options.handle_long_generation == "hole":
            prompts = [self._make_room(ids, settings) for ids in prompts]
        if size is not None:
            settings["max_rows"] = size
        found = self.model.generate(prompts, tokenizer=self.tokenizer, **settings)
        rows = getattr(found, "sequences", found).tolist()
        width, times, ends = max(map(len, prompts)), len(rows) // len(prompts), self._ends(settings)
        pad = settings.get("pad_token_id", None if ends or not EARLY & settings.keys() else 0)
        for number, (item, ids) in enumerate(zip(items, prompts, strict=True)):
            new = [_cut(row[width:], ends, pad) for row in rows[number * times :][:times]]
            more = [_further(found, number * times + n, len(rows), len(tokens)) for n, tokens in enumerate(new)]
            records = [self._record(item, ids, tokens, options) for tokens in new]
            yield [record | further for record, further in zip(records, more, strict=True)]

    # Prompts ------------------------------------------------------------------------------------------------------

    def _ids(self, item: Any, options: GenerationOptions) -> list[int]:
        """Give the ids of a text or a conversation."""
        settings: dict[str, Any] = {} if options.truncation is None else {"truncation": options.truncation}
        if options.truncation and (longest := options.set_apart.get("max_length")) is not None:
            settings["max_length"] = longest
        settings |= options.tokenizer_encode_kwargs
        if (messages := _messages(item)) is not None:
            goes_on = _goes_on(messages, options)
            length = {"max_length": settings.pop("max_length")} if "max_length" in settings else {}
            cut = {"truncation": settings.pop("truncation")} if "truncation" in settings else {}
            ids: list[int] = self.tokenizer.apply_chat_template(
                messages,
                tools=options.tools,
                documents=options.documents,
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
                return_dict=False,
                tokenizer_kwargs=settings,
                **cut,
                **length,
            )
            return ids
        if not isinstance(item, str):
            raise InputError(
                f"{item!r:.80} is no prompt: give a text, or a conversation, "
                '[{"role": "user", "content": "…"}], or a list of either.'
            )
        text, begin = f"{self._prefix(options)}{item}", self.tokenizer.bos_token
        adds = options.add_special_tokens
        if adds is None:
            adds = not (begin and text.startswith(begin))  # one begin token, not two
        ids = self.tokenizer(text, add_special_tokens=adds, **settings)["input_ids"]
        start = self.tokenizer.bos_token_id
        return ids or ([] if start is None else [start])

    def _prefix(self, options: GenerationOptions) -> str:
        prefix = options.prefix if options.prefix is not None else getattr(self.model.config, "prefix", None)
        return prefix or ""

    def _count_prefix(self, items: list[Any], options: GenerationOptions, settings: dict[str, Any]) -> None:
        """Let lengths of the whole text count the prefix besides, since it is not given back."""
        prefix = self._prefix(options)
        if not prefix or not all(isinstance(item, str) for item in items):
            return
        count = len(self.tokenizer(prefix, add_special_tokens=bool(options.add_special_tokens))["input_ids"])
        for whole, new in LENGTHS:
            if settings.get(whole) is not None and settings.get(new) is None:
                settings[whole] += count

    def _make_room(self, ids: list[int], settings: Mapping[str, Any]) -> list[int]:
        """Cut a prompt at its beginning, so that what is asked for fits."""
        most, new = self.tokenizer.model_max_length, settings.get("max_new_tokens")
        new = settings["max_length"] - len(ids) if new is None else new
        if len(ids) + new <= most:
            return ids
        if most - new < 1:
            raise InputError(f"{new} new tokens leave no room for a prompt: the model takes {most} tokens in all.")
        return ids[new - most :]

    # Settings -----------------------------------------------------------------------------------------------------

    def _settings(self, options: GenerationOptions, longest: int) -> dict[str, Any]:
        """Give what `generate` is told: what the caller said, and the defaults for what nobody says."""
        settings = dict(options.set_apart)
        said = {**self.model.generation_config.to_diff_dict(), **settings}
        if (given := settings.get("generation_config")) is not None:
            said = {**self.model.generation_config.to_diff_dict(), **given.to_diff_dict(), **settings}
        added = {name: value for name, value in DEFAULTS.items() if said.get(name) is None}
        if said.get("max_length") is not None:
            added.pop("max_new_tokens", None)
        if not {**said, **added}.get("do_sample"):
            added = {name: value for name, value in added.items() if name not in SAMPLING}
        most = getattr(self.model.config, "max_position_embeddings", None)
        if "max_new_tokens" in added and isinstance(most, int) and most > longest:
            added["max_new_tokens"] = min(added["max_new_tokens"], most - longest)
        if said.get("pad_token_id") is None and self.tokenizer.pad_token_id is not None:
            added["pad_token_id"] = self.tokenizer.pad_token_id
        return settings | added

    def _ends(self, settings: Mapping[str, Any]) -> set[int]:
        """Give the tokens that end a text: those of the call, or what model and tokenizer say."""
        if settings.get("eos_token_id") is not None:
            return set(as_ids(settings["eos_token_id"]))
        places = (settings.get("generation_config"), self.model.generation_config, self.model.config, self.tokenizer)
        return {index for place in places for index in as_ids(getattr(place, "eos_token_id", None))}

    # Answers ------------------------------------------------------------------------------------------------------

    def _record(self, item: Any, ids: list[int], new: list[int], options: GenerationOptions) -> dict[str, Any]:
        """Give one answer."""
        if options.return_tensors:
            return {"generated_token_ids": [*ids, *new]}
        text = self.tokenizer.decode(
            new,
            skip_special_tokens=options.skip_special_tokens,
            clean_up_tokenization_spaces=options.clean_up_tokenization_spaces,
        )
        if options.return_full_text is False:
            return {"generated_text": text}
        messages = _messages(item)
        if messages is None:
            return {"generated_text": item + text}
        if _goes_on(messages, options):
            last = {"role": messages[-1]["role"], "content": messages[-1]["content"] + text}
            return {"generated_text": [*messages[:-1], last]}
        return {"generated_text": [*messages, {"role": "assistant", "content": text}]}


def _messages(item: Any) -> Messages | None:
    """Give the messages of a conversation, or None where it is none."""
    found = getattr(item, "messages", item)
    if isinstance(found, list | tuple) and found and all(isinstance(message, Mapping) for message in found):
        if wrong := [message for message in found if "role" not in message]:
            raise InputError(f"{wrong[0]!r:.80} is no message: it needs a role and its content.")
        return list(found)
    return None


def _goes_on(messages: Messages, options: GenerationOptions) -> bool:
    said = options.continue_final_message
    return messages[-1]["role"] == "assistant" if said is None else said


def _further(output: Any, row: int, rows: int, length: int) -> dict[str, Any]:
    """Give what else `generate` has for a row, as lists: one entry for each new token, or a number."""
    found: dict[str, Any] = {}
    for name in ("scores", "logits"):
        steps = getattr(output, name, None)
        if steps is not None and len(steps[0]) == rows:
            found[name] = [step[row].tolist() for step in steps[:length]]
    for name in ("sequences_scores", "beam_indices"):
        if (values := getattr(output, name, None)) is not None:
            found[name] = values[row].tolist()
    return found


def _cut(tokens: list[int], ends: set[int], pad: int | None) -> list[int]:
    """Take off what stands behind the end of a row, as padding beside longer ones."""
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[: place + 1]
    while tokens and tokens[-1] == pad:
        tokens = tokens[:-1]
    return tokens
