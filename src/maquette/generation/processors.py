"""Which functions on logits the settings ask for, in their order (`docs/generation_settings.md`)."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maquette.errors import ConfigurationError
from maquette.generation.configuration import GenerationConfig
from maquette.generation.constraints import (
    ExponentialDecayLengthPenalty,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
from maquette.generation.guidance import GuidanceLogitsProcessor
from maquette.generation.logits import LogitsProcessor, LogitsProcessorList
from maquette.generation.penalties import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    FrequencyPenaltyLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    PresencePenaltyLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.synthid import SynthIDTextWatermarkLogitsProcessor
from maquette.generation.truncation import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)
from maquette.generation.watermark_settings import SynthIDTextWatermarkingConfig, as_watermark
from maquette.generation.watermarks import WatermarkLogitsProcessor

logger = logging.getLogger(__name__)


def processors_for(
    config: GenerationConfig,
    *,
    ends: Sequence[int] = (),
    vocab_size: int = 0,
    device: str | torch.device = "cpu",
    custom: Sequence[Any] = (),
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None = None,
    encoder_input_ids: Tensor | RaggedIds | None = None,
    unconditional: Callable[[RaggedIds], Tensor] | None = None,
) -> LogitsProcessorList:
    """Give the functions on logits that settled settings ask for, in the order in which they are applied.

    Args:
        config: the settings, settled.
        ends: the end tokens.
        vocab_size: of the model; only a watermark asks.
        device: where the ids will be.
        custom: the caller's own: each stands for the built-in one of its class, or before what shapes sampling.
        prefix_allowed_tokens_fn: which tokens may follow, `f(number of the prompt, ids) -> ids`.
        encoder_input_ids: `(texts, length)` or ragged, where the model has an encoder of texts.
        unconditional: gives scores without the prompt, for `guidance_scale`.

    Raises:
        ConfigurationError: a setting needs what is not there.
    """
    made = [
        *_guiding(config, unconditional),
        *_penalties(config, ends, encoder_input_ids),
        *_constraints(config, ends, prefix_allowed_tokens_fn),
    ]
    shaping: list[LogitsProcessor] = []
    if config.do_sample:
        shaping = [*_shaping(config, 1 if (config.num_beams or 1) == 1 else max(len(ends), 1) + 1)]
    last = {type(one).__name__ for one in shaping}
    listed = _merge(made, [each for each in custom if type(each).__name__ not in last])
    listed += _merge(shaping, [each for each in custom if type(each).__name__ in last])
    if config.watermarking_config is not None:
        listed.append(_marking(config.watermarking_config, vocab_size, device))
    if config.renormalize_logits:
        listed.append(LogitNormalization())
    return LogitsProcessorList(listed)


def _marking(given: Mapping[str, Any], vocab_size: int, device: str | torch.device) -> LogitsProcessor:
    settings = as_watermark(given)
    if isinstance(settings, SynthIDTextWatermarkingConfig):
        return SynthIDTextWatermarkLogitsProcessor(device=device, **settings.to_dict())
    return WatermarkLogitsProcessor(vocab_size, device, **settings.to_dict())


def _merge(made: Sequence[LogitsProcessor], custom: Sequence[Any]) -> list[Any]:
    """Put the caller's own in the place of built-in ones of the same class, and the rest behind them."""
    own: dict[str, list[Any]] = {type(one).__name__: [] for one in made}
    for each in custom:
        own.get(type(each).__name__, []).append(each)
    if replaced := [name for name, those in own.items() if those]:
        logger.warning("Your own %s counts, and not what the settings say of it.", " and ".join(replaced))
    listed = [each for one in made for each in own[type(one).__name__] or [one]]
    return listed + [each for each in custom if type(each).__name__ not in own]


def _guiding(
    config: GenerationConfig, unconditional: Callable[[RaggedIds], Tensor] | None
) -> Iterator[LogitsProcessor]:
    if config.guidance_scale not in (None, 1):
        if unconditional is None:
            raise ConfigurationError(
                f"guidance_scale={config.guidance_scale}: nothing gives scores without the prompt."
            )
        yield GuidanceLogitsProcessor(config.guidance_scale or 1, unconditional)


def _penalties(
    config: GenerationConfig, ends: Sequence[int], inputs: Tensor | RaggedIds | None
) -> Iterator[LogitsProcessor]:
    if config.exponential_decay_length_penalty is not None and not ends:
        raise ConfigurationError("exponential_decay_length_penalty raises the end's score, and no token is the end.")
    of_encoder = (config.encoder_repetition_penalty or 1) != 1 or config.encoder_no_repeat_ngram_size
    if of_encoder and inputs is None:
        raise ConfigurationError(
            "encoder_repetition_penalty and encoder_no_repeat_ngram_size compare with the tokens of an encoder's "
            "input, and there is none: leave them unset."
        )
    if config.sequence_bias:
        yield SequenceBiasLogitsProcessor(config.sequence_bias)
    if inputs is not None and (penalty := config.encoder_repetition_penalty or 1) != 1:
        yield EncoderRepetitionPenaltyLogitsProcessor(penalty, inputs)
    if (penalty := config.repetition_penalty or 1) != 1:
        yield RepetitionPenaltyLogitsProcessor(penalty)
    if config.frequency_penalty:
        yield FrequencyPenaltyLogitsProcessor(config.frequency_penalty)
    if config.presence_penalty:
        yield PresencePenaltyLogitsProcessor(config.presence_penalty)
    if config.no_repeat_ngram_size:
        yield NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size)
    if inputs is not None and config.encoder_no_repeat_ngram_size:
        yield EncoderNoRepeatNGramLogitsProcessor(config.encoder_no_repeat_ngram_size, inputs)
    if config.bad_words_ids:
        yield NoBadWordsLogitsProcessor(config.bad_words_ids, [*ends])


def _constraints(
    config: GenerationConfig,
    ends: Sequence[int],
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None,
) -> Iterator[LogitsProcessor]:
    if ends and config.min_length and config.min_new_tokens is None:
        yield MinLengthLogitsProcessor(config.min_length, ends)
    if ends and config.min_new_tokens:
        yield MinNewTokensLengthLogitsProcessor(0, config.min_new_tokens, ends)
    if prefix_allowed_tokens_fn is not None:
        yield PrefixConstrainedLogitsProcessor(prefix_allowed_tokens_fn, config.num_beams or 1)
    if config.forced_bos_token_id is not None:
        yield ForcedBOSTokenLogitsProcessor(config.forced_bos_token_id)
    if config.forced_eos_token_id is not None:
        new = config.max_new_tokens
        yield ForcedEOSTokenLogitsProcessor(config.max_length, config.forced_eos_token_id, max_new_tokens=new)
    if config.remove_invalid_values:
        yield InfNanRemoveLogitsProcessor()
    if config.exponential_decay_length_penalty is not None:
        yield ExponentialDecayLengthPenalty(config.exponential_decay_length_penalty, ends, 0)
    if config.suppress_tokens:
        yield SuppressTokensLogitsProcessor(config.suppress_tokens)
    if config.begin_suppress_tokens:
        forces = config.forced_bos_token_id is not None
        yield SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, 0, forces_begin=forces)


def _shaping(config: GenerationConfig, keep: int) -> Iterator[LogitsProcessor]:
    """Give what shapes the distribution that is sampled from, keeping at least so many tokens."""
    if config.temperature not in (None, 1):
        yield TemperatureLogitsWarper(config.temperature or 1)
    if config.top_h is not None:
        yield TopHLogitsWarper(config.top_h)
    if config.top_k:
        yield TopKLogitsWarper(config.top_k, min_tokens_to_keep=keep)
    if config.top_p is not None and config.top_p < 1:
        yield TopPLogitsWarper(config.top_p, min_tokens_to_keep=keep)
    if config.min_p:
        yield MinPLogitsWarper(config.min_p, min_tokens_to_keep=keep)
    if config.typical_p is not None and config.typical_p < 1:
        yield TypicalLogitsWarper(config.typical_p, min_tokens_to_keep=keep)
    if config.epsilon_cutoff:
        yield EpsilonLogitsWarper(config.epsilon_cutoff, min_tokens_to_keep=keep)
    if config.eta_cutoff:
        yield EtaLogitsWarper(config.eta_cutoff, min_tokens_to_keep=keep)
