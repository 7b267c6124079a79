"""Recordings of any length, written down window after window (Radford et al. 2022, section 4.5).

Each window begins where the last one's text ends, by the times in it; what comes out badly is tried again. What a
recording gives does not depend on those beside it.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from maquette.errors import ConfigurationError, InputError
from maquette.generation.time_stamps import WhisperTimeStampLogitsProcessor, split_at_times
from maquette.generation.word_times import align_tokens

STEP = 0.02  # seconds of a step of times: two frames of features
ROWS = 64  # recordings that are heard at the same time
PROMPTS = ("first-segment", "all-segments")


@dataclass(eq=False)
class Recording:
    """One recording, and what was said in it so far.

    Attributes:
        features: `(bands, frames)`; None where the encoder has heard its only window.
        frames: how many of these are heard.
        real: how many are no padding.
        states: of the next window, where the encoder has heard it, `(places, dim)`.
        first: the tokens that a text of it begins with.
        seek: the frame at which the next window begins.
        is_sure: whether the last window's text may be told to the next.
        segments: the stretches of speech so far.
        output: all that `generate` gave, where that is asked for.
    """

    features: Tensor | None
    frames: int
    real: int
    states: Tensor | None = None
    first: list[int] = field(default_factory=list)
    seek: int = 0
    is_sure: bool = True
    segments: list[dict[str, Any]] = field(default_factory=list)
    output: Any = None

    def cut(self, window: int) -> Tensor:
        """Give the next window, filled up with zeros."""
        assert self.features is not None
        part = self.features[:, self.seek : min(self.seek + window, self.frames)]
        return pad(part, (0, window - part.shape[1]))


@dataclass(eq=False)
class Attempt:
    """What a window gave.

    Attributes:
        tokens: the text's, the end among them.
        temperature: that it was drawn with.
        surety: the mean log-probability of a token, where that was asked for.
        silence: how likely nothing is said.
        times: the second at which each token begins.
        output: all that `generate` gave.
    """

    tokens: list[int]
    temperature: float | None = None
    surety: float | None = None
    silence: float = 0.0
    times: Tensor | None = None
    output: Any = None


@dataclass(eq=False)
class Transcription:
    """One call that writes recordings down.

    Args:
        model: has an encoder, `config.window` (frames of features) and `config.max_target_positions`.
        generate: continues what a decoder begins with, as for any model with an encoder.
        settings: what counts in the call; has what the family knows of languages and first tokens.
        options: further arguments of `generate`.
        temperatures: tried one after the other; None for what the settings say.
        prompt: the tokens of what was said before the recording.
        tells_tokens: whether each token gets a time.
    """

    model: Any
    generate: Callable[..., Any]
    settings: Any
    options: dict[str, Any]
    temperatures: list[float | None]
    prompt: list[int]
    tells_tokens: bool = False

    def __post_init__(self) -> None:
        settings = self.settings
        self.logprob, self.no_speech = settings.logprob_threshold, settings.no_speech_threshold
        self.conditions = bool(settings.condition_on_prev_tokens)
        if self.no_speech is not None and self.logprob is None:
            raise ConfigurationError("no_speech_threshold counts together with logprob_threshold: set both.")
        kind = settings.prompt_condition_type or PROMPTS[0]
        if kind not in PROMPTS or (kind == PROMPTS[1] and not self.conditions):
            raise ConfigurationError(
                f"prompt_condition_type={kind!r}: {' or '.join(map(repr, PROMPTS))}, the second with "
                "condition_on_prev_tokens=True."
            )
        self.repeats_prompt = kind == PROMPTS[1]
        self.gives_output = False

    def run(self, features: Tensor | None, states: Any, mask: Tensor | None, *, segments: bool) -> Any:
        """Hear all recordings, and give what `generate` gives back; the model is in its mode for generating."""
        settings, window = self.settings, self.model.config.window
        recordings = self._read(features, None if states is None else as_states(states), mask)
        if any(one.frames > window for one in recordings):
            if settings.return_timestamps is False:
                raise InputError(
                    f"A recording of more than {window} frames is heard window after window, by the times in its text: "
                    "leave return_timestamps=False out, or cut the features."
                )
            settings.found["return_timestamps"] = True
        if settings.return_timestamps:
            settings.need("no_timestamps_token_id")
        if self.tells_tokens:
            settings.need("alignment_heads")
        wants_all = bool(settings.return_dict_in_generate)
        self.gives_output = wants_all and not settings.return_timestamps and len(self.temperatures) == 1
        named = settings.named_languages(len(recordings))
        if named is None and settings.hears_language:
            named = self._detect(recordings)
        for one, tokens in zip(recordings, settings.first_tokens(len(recordings), named), strict=True):
            one.first = tokens
        recordings = self._repeat(recordings)
        size = len(recordings) if self.gives_output else ROWS
        for start in range(0, len(recordings), size):
            self._hear(recordings[start : start + size])
        if self.gives_output and not (segments or self.tells_tokens):
            return recordings[0].output
        return self._put_together(recordings, segments=segments or wants_all)

    def _read(self, features: Tensor | None, states: Tensor | None, mask: Tensor | None) -> list[Recording]:
        window = self.model.config.window
        if features is None and states is None:
            raise InputError("generate got nothing to hear: give input_features, or encoder_outputs.")
        if features is None:
            return [Recording(None, window, window, states=own) for own in states]  # type: ignore[union-attr]
        self.model.config.check_features(features.shape, is_window=False)
        frames = features.shape[-1]
        if frames > window and mask is None and len(features) > 1:
            raise InputError("Recordings of several windows need an attention_mask, which says how long each is.")
        if mask is not None and mask.shape != (len(features), frames):
            raise InputError(
                f"attention_mask is {tuple(mask.shape)}, and input_features are {tuple(features.shape)}: a mask has "
                "(recordings, frames). The feature extractor gives one with return_attention_mask=True."
            )
        heard = features.to(self.model.device, self.model.dtype)
        counts = [frames] * len(features) if mask is None else mask.sum(-1).tolist()
        return [Recording(x, n if frames > window else frames, n) for x, n in zip(heard, counts, strict=True)]

    def _repeat(self, recordings: list[Recording]) -> list[Recording]:
        """Have each recording heard as often as texts of it are wanted."""
        times = self.settings.num_return_sequences or 1
        if times > 1 and not self._draws(self.temperatures[0]):
            raise ConfigurationError(
                "num_return_sequences gives several texts where tokens are drawn: set a temperature above 0."
            )
        return [replace(one, segments=[]) for one in recordings for _ in range(times)]

    def _detect(self, recordings: list[Recording]) -> list[int]:
        """Hear the languages of recordings."""
        found: list[int] = []
        for start in range(0, len(recordings), ROWS):
            states = self._encode(recordings[start : start + ROWS])
            found += self.model.detect_language(encoder_outputs=states, **self.settings.found).tolist()
        return found

    def _encode(self, recordings: Sequence[Recording]) -> Tensor:
        """Have the encoder hear the next window of each, unless it has."""
        window = self.model.config.window
        if unheard := [one for one in recordings if one.states is None]:
            states = self.model.get_encoder()(torch.stack([one.cut(window) for one in unheard])).last_hidden_state
            for one, heard in zip(unheard, states, strict=True):
                one.states = heard
        return torch.stack([one.states for one in recordings])  # type: ignore[misc]

    # Windows --------------------------------------------------------------------------------------------------------

    def _hear(self, recordings: list[Recording]) -> None:
        while active := [one for one in recordings if one.seek < one.frames]:
            for one, attempt in zip(active, self._try(active), strict=True):
                self._take(one, attempt)

    def _take(self, one: Recording, attempt: Attempt) -> None:
        """Take over what a window gave, and go to the next."""
        window = min(one.frames - one.seek, self.model.config.window)
        one.is_sure = attempt.temperature is None or attempt.temperature < 0.5
        one.states, one.output = None, attempt.output if self.gives_output else None
        if self._is_silent(attempt):
            one.seek += window
            return
        ends = several(self.settings.eos_token_id)
        tokens = attempt.tokens[:-1] if attempt.tokens and attempt.tokens[-1] in ends else attempt.tokens
        stretches, following = split_at_times(tokens, self.settings.begin)
        offset = one.seek * STEP / 2
        for start, end, first, last in stretches:
            segment = {
                "start": offset + start * STEP,
                "end": offset + (window // 2 if end is None else end) * STEP,
                "tokens": torch.tensor(tokens[first:last], dtype=torch.long),
            }
            if attempt.times is not None:
                segment["token_timestamps"] = attempt.times[first:last] + offset
            one.segments.append(segment)
        one.seek += window if following is None else 2 * following

    def _try(self, recordings: list[Recording]) -> list[Attempt]:
        """Write down the next window of each, with one temperature after the other where a text is no good one."""
        states = self._encode(recordings)
        prompts = [self._prompt(one) for one in recordings]
        found: dict[int, Attempt] = {}
        silence = self._hear_silence(states, prompts, [len(one.first) for one in recordings])
        waiting = [*range(len(recordings))]
        for number, temperature in enumerate(self.temperatures):
            attempts = self._write(states[waiting], [prompts[n] for n in waiting], temperature)
            for place, attempt in zip(waiting, attempts, strict=True):
                attempt.silence, found[place] = silence[place], attempt
            if number + 1 < len(self.temperatures):
                waiting = [place for place in waiting if self._is_poor(found[place])]
            if not waiting:
                break
        if self.tells_tokens:
            for place, one in enumerate(recordings):
                real = max((one.real - one.seek) // 2, 1)
                found[place].times = self._time(states[place], prompts[place], found[place].tokens, real)
        return [found[place] for place in range(len(recordings))]

    def _prompt(self, one: Recording) -> list[int]:
        """Give what the decoder begins with: what was said before, where that counts, and the first tokens."""
        if not (self.conditions and one.is_sure and one.segments):
            return [*self.prompt, *one.first]
        settings = self.settings
        most, marker = self.model.config.max_target_positions // 2 - 1, settings.prev_sot_token_id
        markers = [marker] if marker is not None else [*(settings.suppress_tokens or ())][-2:-1]  # as in older files
        said = [] if self.repeats_prompt else self.prompt[int(self.prompt[:1] == markers) :]
        for segment in one.segments:
            tokens = segment["tokens"].tolist()
            said = said + (tokens[:-1] if len(tokens) > 2 and tokens[-2] >= settings.begin else tokens)
        return [*(self.prompt if self.repeats_prompt else markers), *said[-most:], *one.first]

    def _draws(self, temperature: float | None) -> bool:
        return bool(self.settings.do_sample) if temperature is None else temperature > 0

    def _write(self, states: Tensor, prompts: list[list[int]], temperature: float | None) -> Iterator[Attempt]:
        """Write down what is heard in windows of these states."""
        settings, width = self.settings, max(map(len, prompts))
        how: dict[str, Any] = {**self.options, **self._lengths(width), "num_return_sequences": 1}
        if draws := self._draws(temperature):
            how |= {"do_sample": True, "temperature": temperature or 1.0, "num_beams": 1}
        elif temperature is not None:
            how |= {"do_sample": False}
        if self.logprob is not None:
            how |= {"return_dict_in_generate": True, "output_scores": True}
        if settings.return_timestamps:
            first, end = settings.max_initial_timestamp_index, first_of(settings.need("eos_token_id"))
            rules = WhisperTimeStampLogitsProcessor(settings.begin - 1, end, first)
            how["logits_processor"] = [rules, *(how.get("logits_processor") or ())]
        output = self.generate(encoder_outputs=states, decoder_input_ids=prompts, **how)
        sequences = output if isinstance(output, Tensor) else output.sequences
        for row, ids in enumerate(sequences[:, width:].tolist()):
            attempt = Attempt(self._cut(ids), temperature if draws else 0.0, output=output)
            if self.logprob is not None:
                attempt.surety = self._surety(output, row, attempt)
            yield attempt

    def _lengths(self, width: int) -> dict[str, int]:
        """Say how long texts may get."""
        most, new = self.model.config.max_target_positions, self.settings.max_new_tokens
        if new is None:
            longest = self.settings.max_length or most
            return {"max_length": most} if longest >= most else {"max_new_tokens": min(longest, most - width)}
        if width + new > most:
            raise InputError(
                f"The decoder reads {most} tokens at most, its text begins with {width}, and max_new_tokens={new}: "
                f"set max_new_tokens={max(most - width, 0)} at most, or shorten prompt_ids."
            )
        return {"max_new_tokens": new}

    def _cut(self, ids: list[int]) -> list[int]:
        """Leave out what pads a row behind its end."""
        ends = several(self.settings.eos_token_id)
        stop = next((place + 1 for place, token in enumerate(ids) if token in ends), None)
        if stop is None:
            stop = len(ids)
            while stop and ids[stop - 1] == self.settings.pad_token_id:
                stop -= 1
        return ids[:stop]

    # How good a text is ---------------------------------------------------------------------------------------------

    def _is_poor(self, attempt: Attempt) -> bool:
        most = self.settings.compression_ratio_threshold
        repeats = most is not None and compression(attempt.tokens, self.model.config.vocab_size) > most
        return (repeats or self._is_unsure(attempt)) and not self._is_silent(attempt)

    def _is_unsure(self, attempt: Attempt) -> bool:
        return attempt.surety is not None and attempt.surety < self.logprob

    def _is_silent(self, attempt: Attempt) -> bool:
        return self.no_speech is not None and self._is_unsure(attempt) and attempt.silence > self.no_speech

    def _surety(self, output: Any, row: int, attempt: Attempt) -> float:
        """Give the mean log-probability of a text's tokens, by the scores that chose them."""
        beams, count = output.get("beam_indices"), len(attempt.tokens)
        rows = [row] * count if beams is None else beams[row, :count].tolist()
        scores = torch.stack([step[place] for step, place in zip(output.scores, rows, strict=False)])
        logs = (scores * (attempt.temperature or 1.0)).float().log_softmax(-1)
        ids = torch.tensor(attempt.tokens, device=logs.device)
        return float(logs.gather(1, ids[:, None]).sum() / max(count, 1))

    def _hear_silence(self, states: Tensor, prompts: list[list[int]], sizes: Sequence[int]) -> list[float]:
        """Tell how likely nothing is said in each window, by the token for that right after the start token."""
        if self.no_speech is None:
            return [0.0] * len(prompts)
        silent, found = self.settings.need("no_timestamps_token_id") - 1, []
        for state, prompt, size in zip(states, prompts, sizes, strict=True):
            ids = torch.tensor([prompt[: len(prompt) - size + 1]], device=state.device)
            logits = self.model(encoder_outputs=(state[None],), decoder_input_ids=ids, use_cache=False).logits
            found.append(float(logits[0, -1].float().softmax(-1)[silent]))
        return found

    def _time(self, state: Tensor, prompt: list[int], tokens: list[int], real: int) -> Tensor:
        """Give the second, in its window, at which each token begins, `(tokens,)`; the last has the time before it."""
        said = tokens[:-1]
        if not said:
            return torch.zeros(len(tokens))
        ids = torch.tensor([[*prompt, *said]], device=state.device)
        given: dict[str, Any] = {"encoder_outputs": (state[None],), "decoder_input_ids": ids, "use_cache": False}
        layers = self.model(**given, output_attentions=True).cross_attentions
        chosen = [layers[layer][0, head, len(prompt) :, :real] for layer, head in self.settings.alignment_heads]
        places = align_tokens(torch.stack(chosen), width=self.model.config.median_filter_width)
        return torch.tensor([*places, places[-1]], dtype=torch.float64).mul(STEP).float()

    # What is given back ---------------------------------------------------------------------------------------------

    def _put_together(self, recordings: list[Recording], *, segments: bool) -> Any:
        """Give the ids of all windows, with what else was asked for."""
        device, end = self.model.device, first_of(self.settings.eos_token_id)
        filler = end if self.settings.pad_token_id is None else self.settings.pad_token_id
        rows = [_join(one, "tokens", torch.long) for one in recordings]
        found = {"sequences": pad_sequence(rows, batch_first=True, padding_value=filler).to(device)}
        if self.tells_tokens:
            times = [_join(one, "token_timestamps", torch.float32) for one in recordings]
            found["token_timestamps"] = pad_sequence(times, batch_first=True).to(device)
        more = {"segments": [one.segments for one in recordings]} if segments else {}
        return {**found, **more} if more or len(found) > 1 else found["sequences"]


def _join(one: Recording, name: str, kind: torch.dtype) -> Tensor:
    return torch.cat([torch.tensor([], dtype=kind), *(segment[name] for segment in one.segments)])


def compression(tokens: Sequence[int], vocabulary: int) -> float:
    """Tell how much shorter a text's ids get by zlib: the more, the more repeats in it."""
    width = int(math.log2(vocabulary) / 8) + 1
    content = b"".join(token.to_bytes(width, "little") for token in tokens)
    return len(content) / len(zlib.compress(content))


def as_states(given: Any) -> Tensor:
    """Take what an encoder gave: an output, a tuple, or its states."""
    states = given["last_hidden_state"] if hasattr(given, "keys") else given
    found: Tensor = states[0] if isinstance(states, tuple | list) else states
    return found


def first_of(value: Any) -> Any:
    """Give the first of several ids, or the only one."""
    return value[0] if isinstance(value, list | tuple) else value


def several(value: Any) -> set[int]:
    """Give one id, several or none as a set."""
    return {*value} if isinstance(value, list | tuple) else set() if value is None else {value}
