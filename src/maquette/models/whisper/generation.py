"""What Whisper's `generate` takes, and the tokens that a text begins with (Radford et al. 2022, section 2.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maquette import ConfigurationError, InputError
from maquette.generation.configuration import GenerationConfig
from maquette.generation.setting_rules import SPEECH
from maquette.generation.transcription import Transcription, as_states, first_of
from maquette.modeling.generation_mode import GenerationMode

from .languages import TASKS, check_task, language_code

# Settings of every model that count here, too.
ALSO = frozenset(
    {"num_return_sequences", "do_sample", "max_length", "max_new_tokens", "suppress_tokens", "return_dict_in_generate"}
    | {"decoder_start_token_id", "eos_token_id", "pad_token_id"}
)


class WhisperGenerationMixin:
    """`generate` for speech."""

    _completes_decoder_ids = False  # texts may begin with what was said before, and the start token comes later

    def generate(
        self: Any,
        input_features: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        attention_mask: Tensor | None = None,
        prompt_ids: Any = None,
        temperature: float | Sequence[float] | None = None,
        return_token_timestamps: bool | None = None,
        return_segments: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Write down what is said, or what it means in English, in clips and in recordings of any length.

        Args:
            input_features: `(recordings, num_mel_bins, frames)`; or give `encoder_outputs`, of one window each.
            generation_config: settings for this call; what it leaves open is as in `self.generation_config`.
            attention_mask: `(recordings, frames)`, 0 at padding; needed for recordings of several lengths.
            prompt_ids: what was said before, or how names are spelt, from `processor.get_prompt_ids`.
            temperature: above 0 to draw tokens; of several, each is tried where the one before gave no good text.
            return_token_timestamps: give the second at which each token begins, too: `token_timestamps`.
            return_segments: give a dictionary, with `segments`, the stretches of speech between two times.
            kwargs: settings, as in `GenerationConfig`, among them `language` (one, or one for each recording; heard
                from the recording where it is not said), `task`, `return_timestamps`, `condition_on_prev_tokens`,
                `compression_ratio_threshold`, `logprob_threshold`, `no_speech_threshold`; and what `generate` takes of
                other models. With `decoder_input_ids`, which have the start token, windows are continued as by other
                models, and the ids given stand before the new ones.

        Returns:
            Ids `(recordings, length)`, without what a text begins with and its end, padded on the right. With
            `return_dict_in_generate`, and without times, the output of other models with an encoder.

        Raises:
            InputError: features, a language or a task that the model does not have.
            ConfigurationError: the model's settings do not say what is needed, such as the tokens of times.
        """
        features = kwargs.pop("inputs", None) if input_features is None else input_features
        if (begun := kwargs.get("decoder_input_ids")) is not None:
            if said := sorted(SPEECH & {*kwargs}):
                raise InputError(f"decoder_input_ids and {said[0]}: what a text begins with is said twice. Give one.")
            _check_start(begun, Settings.of(self, generation_config, kwargs).start)
            return super().generate(features, generation_config, **kwargs)  # type: ignore[misc]
        states = kwargs.pop("encoder_outputs", None)
        settings = Settings.of(self, generation_config, kwargs)
        call = Transcription(
            self,
            super().generate,  # type: ignore[misc]
            settings,
            options={"generation_config": generation_config, **kwargs},
            temperatures=[*temperature] if isinstance(temperature, Sequence) else [temperature],
            prompt=[] if prompt_ids is None else torch.as_tensor(prompt_ids).flatten().tolist(),
            tells_tokens=bool(return_token_timestamps),
        )
        with GenerationMode(self):
            return call.run(features, states, attention_mask, segments=return_segments)

    def detect_language(
        self: Any, input_features: Tensor | None = None, encoder_outputs: Any = None, **kwargs: Any
    ) -> Tensor:
        """Give the id of the language that is likeliest in each window, `(recordings,)`."""
        if (input_features is None) == (encoder_outputs is None):
            raise InputError("detect_language needs input_features or encoder_outputs, one of the two.")
        settings = Settings.of(self, kwargs.pop("generation_config", None), kwargs)
        ids = torch.tensor([*settings.need("lang_to_id").values()], device=self.device)
        with GenerationMode(self):
            if input_features is not None:
                heard = input_features[..., : self.config.window].to(self.device, self.dtype)
                encoder_outputs = self.get_encoder()(heard)
            states = as_states(encoder_outputs)
            begin = torch.full((len(states), 1), settings.start, device=self.device)
            logits = self(encoder_outputs=(states,), decoder_input_ids=begin, use_cache=False).logits[:, -1]
        return ids[logits[:, ids].argmax(-1)]


@dataclass(eq=False)
class Settings:
    """What counts in one call: what it says, then its configuration, then the model's own."""

    found: dict[str, Any]

    @classmethod
    def of(cls, model: Any, given: Any, kwargs: dict[str, Any]) -> "Settings":
        """Take the settings of speech out of the arguments of a call."""
        own = (given or GenerationConfig()).to_dict(), model.generation_config.to_dict()
        levels = [kwargs, *own, _plain(model.config)]
        names = SPEECH | ALSO
        found = {n: next((v for level in levels if (v := level.get(n)) is not None), None) for n in names}
        for name in SPEECH:
            kwargs.pop(name, None)
        return cls(found)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.found[name]
        except KeyError:
            raise AttributeError(name) from None

    def need(self, name: str) -> Any:
        """Give a setting that must be there."""
        if self.found[name] is None:
            raise ConfigurationError(
                f"generation_config has no {name}, which this call needs: take the generation_config.json of a "
                f"published Whisper, or set model.generation_config.{name}."
            )
        return self.found[name]

    @property
    def start(self) -> int:
        """The token that a text begins with."""
        return int(first_of(self.need("decoder_start_token_id")))

    @property
    def begin(self) -> int:
        """The id of the first time; beyond all ids where there are no times."""
        known = self.no_timestamps_token_id
        return 2**31 if known is None else int(known) + 1

    def first_tokens(self, rows: int, languages: Sequence[int] | None) -> list[list[int]]:
        """Give what each recording's text begins with: the start, its language, the task, and whether times follow."""
        if self.is_multilingual is False and (self.language is not None or self.task is not None):
            raise InputError("This Whisper knows English alone: leave language and task out.")
        common: list[int | None] = [self.start]
        if self.language is None and self.task is None:
            for place, token in self.forced_decoder_ids or ():
                common += [token] if place == len(common) else []
        tasks = {**(self.task_to_id or {})}
        found = []
        for row in range(rows):
            own = common[:]
            if languages is not None:
                own[1:2] = [languages[row]]
            if self.task is not None:
                own.append(self.need("task_to_id")[check_task(self.task)])
            elif self.language is not None and not {*tasks.values()} & {*own}:
                own += [tasks[TASKS[1]]] if tasks else []
            no_times = self.no_timestamps_token_id
            if self.return_timestamps and own[-1] == no_times:
                own.pop()
            elif not self.return_timestamps and no_times is not None and own[-1] != no_times:
                own.append(no_times)
            found.append([token for token in own if token is not None])
        return found

    def named_languages(self, rows: int) -> list[int] | None:
        """Give the ids of the languages that are said; None where none is."""
        if self.language is None:
            return None
        names = [self.language] * rows if isinstance(self.language, str) else list(self.language)
        if len(names) != rows:
            raise InputError(f"language names {len(names)}, and there are {rows} recordings: one, or one for each.")
        known = self.need("lang_to_id")
        tokens = [f"<|{language_code(name)}|>" for name in names]
        if missing := [token for token in tokens if token not in known]:
            raise InputError(f"This model has no token {missing[0]}; generation_config.lang_to_id has {len(known)}.")
        return [known[token] for token in tokens]

    @property
    def hears_language(self) -> bool:
        """Whether the language is to be told from what is heard."""
        old = self.forced_decoder_ids or [(1, None)]
        is_open = self.task is not None or old[0][0] != 1 or old[0][1] is None
        return self.language is None and self.lang_to_id is not None and is_open


def _check_start(rows: Any, start: int) -> None:
    for number, row in enumerate(rows):
        if start not in [int(token) for token in row]:
            raise InputError(
                f"decoder_input_ids: row {number} has no start token ({start}), behind which the language, the task "
                "and the text stand. Begin it with that, or give what was said before as prompt_ids."
            )


def _plain(config: Any) -> dict[str, Any]:
    names = SPEECH | ALSO
    return {name: getattr(config, name, None) for name in names}
