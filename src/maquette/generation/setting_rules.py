"""Which generation settings go together: defaults, what cannot be, and what another setting leaves without effect."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from maquette.errors import ConfigurationError
from maquette.generation.settings import Settings
from maquette.generation.watermark_settings import as_watermark
from maquette.storage.sizes import parse_size

# What counts where neither the caller nor the model's file says anything; any other setting is off then.
DEFAULTS: dict[str, Any] = {
    "min_length": 0,
    "do_sample": False,
    "early_stopping": False,
    "num_beams": 1,
    "use_cache": True,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    "num_return_sequences": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "output_logits": False,
    "return_dict_in_generate": False,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "max_matching_ngram_size": 2,
}
NEW_TOKENS = 20  # where nobody says how long
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "seed")
BEAMS = ("early_stopping", "length_penalty")
LENGTHS = (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens"))  # of the whole, and of what is new
LEAST = (("min_new_tokens", "max_new_tokens"), ("min_length", "max_length"))  # a least length and its greatest
OUTPUTS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")
# What other ways of generating need, with the value that asks for nothing.
MOVED = {  # out of Transformers, into repositories of its community
    "num_beam_groups": (1, "group-beam-search"),
    "diversity_penalty": (0.0, "group-beam-search"),
    "penalty_alpha": (0.0, "contrastive-search"),
    "dola_layers": (None, "dola"),
    "constraints": (None, "constrained-beam-search"),
    "force_words_ids": (None, "constrained-beam-search"),
}
MISSING = {
    "use_mtp": False,
    "assistant_ensemble_weight": None,
    "speculation_type": None,
}
# What is about how Transformers computes, and changes no result.
UNUSED = {
    "cache_implementation": "dynamic",
    "cache_config": None,
    "max_cache_len": None,
    "continuous_batching_config": None,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "assistant_early_exit": None,
    "is_assistant": False,
}

# What only models that write down speech know.
SPEECH = frozenset(
    {"return_timestamps", "language", "task", "is_multilingual", "lang_to_id", "task_to_id", "forced_decoder_ids"}
    | {"no_timestamps_token_id", "max_initial_timestamp_index", "alignment_heads", "prev_sot_token_id"}
    | {"condition_on_prev_tokens", "prompt_condition_type"}
    | {"compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"}
)


class Ineffective(NamedTuple):
    """A setting without effect, which other setting is the reason, and the reason in words."""

    name: str
    cause: str
    reason: str


def list_faults(config: Settings) -> Iterator[str]:
    """Say what cannot be done as the settings have it."""
    beams, sequences = config.num_beams or 1, config.num_return_sequences or 1
    if sequences > 1 and beams == 1 and not config.do_sample:
        yield (
            f"num_return_sequences={sequences} with one beam and without sampling would give the same text "
            f"{sequences} times: set do_sample=True or num_beams={sequences}"
        )
    if 1 < beams < sequences:
        yield f"num_return_sequences={sequences} is more than num_beams={beams} can give: raise num_beams"
    if config.do_sample and config.temperature == 0:
        yield "temperature=0 divides by nothing; for the likeliest token at each step, set do_sample=False"
    if config.watermarking_config is not None:
        try:
            as_watermark(config.watermarking_config)
        except ConfigurationError as error:
            yield str(error).removesuffix(".")
    if config.max_cache_memory is not None:
        try:
            parse_size(config.max_cache_memory, name="max_cache_memory")
        except ValueError as error:
            yield str(error).rstrip(".")
    yield from _lengths(config)
    yield from _forced(config)
    yield from (
        f"{name}={getattr(config, name)!r} is of a way to generate that maquette does not have: leave it unset"
        for name, nothing in MISSING.items()
        if getattr(config, name) not in (None, nothing)
    )
    yield from (
        f"{name}={getattr(config, name)!r} is of a way to generate that Transformers has moved to code of its own, "
        f"transformers-community/{place}, and that maquette does not have. Leave it unset, or give generate a function "
        "that does it as custom_generate"
        for name, (nothing, place) in MOVED.items()
        if getattr(config, name) not in (None, nothing)
    )


def _lengths(config: Settings) -> Iterator[str]:
    for least, most in LEAST:
        low, high = getattr(config, least), getattr(config, most)
        if low is not None and high is not None and low > high:
            yield f"{least}={low} is more than {most}={high} allows"


def _forced(config: Settings) -> Iterator[str]:
    suppressed = {*(config.suppress_tokens or ())}
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        forced = as_ids(getattr(config, name))
        if forced and suppressed.issuperset(forced):
            yield f"{name}={getattr(config, name)} is in suppress_tokens, so that no token would be left: take it out"


def list_ineffective(config: Settings) -> Iterator[Ineffective]:
    """Give the settings that have no effect because of others."""
    if not config.do_sample:
        yield from _among(config, SAMPLING, "do_sample", "which only counts with do_sample=True")
    if (config.num_beams or 1) == 1:
        yield from _among(config, BEAMS, "num_beams", "which only counts with num_beams above 1")
    if not config.return_dict_in_generate:
        yield from _among(config, OUTPUTS, "return_dict_in_generate", "which needs return_dict_in_generate=True")
    for name, other in LENGTHS:
        if getattr(config, other) is not None:
            yield from _among(config, (name,), other, f"since {other}={getattr(config, other)} counts instead")
    if config.prompt_lookup_num_tokens is None:
        yield from _among(
            config, ("max_matching_ngram_size",), "prompt_lookup_num_tokens", "which needs prompt_lookup_num_tokens"
        )
    for other, value in (("disable_compile", True), ("use_cache", False)):
        if getattr(config, other) is value:
            yield from _among(config, ("compile_config",), other, f"since {other}={value}")
    for name, usual in UNUSED.items():
        if getattr(config, name) not in (None, usual):
            yield Ineffective(name, name, "which changes nothing in maquette: its cache grows by itself")


def _among(config: Settings, names: tuple[str, ...], cause: str, reason: str) -> Iterator[Ineffective]:
    for name in names:
        value = getattr(config, name)
        if value is not None and value != DEFAULTS.get(name):
            yield Ineffective(name, cause, reason)


def as_ids(value: Any) -> tuple[int, ...]:
    """Give the token ids that a setting names: none, one or several; negative ones stand for none."""
    if value is None:
        return ()
    ids = value if isinstance(value, list | tuple) else value.tolist() if hasattr(value, "tolist") else [value]
    return tuple(dict.fromkeys(int(each) for each in (ids if isinstance(ids, list | tuple) else [ids]) if each >= 0))


def check_finite(name: str, value: Any) -> str | None:
    """Say that a number is none; infinities and NaN would make every result wrong."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"Expected a finite number, got {value!r}"
    return None
