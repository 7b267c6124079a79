"""Sounds: their classes, and what is said in them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from maquette.audio.clips import AudioOptions, read_sounds
from maquette.batch.tensors import to_numpy
from maquette.errors import InputError
from maquette.images.fetching import fetch
from maquette.pipelines.base import Pipeline, Row
from maquette.pipelines.scores import apply_function, check_count, check_function, rank, usual_function
from maquette.text.spoken_words import find_words

MAX_BYTES = 500_000_000  # of a sound with an address
SECONDS = 60.0  # until it must be there
BEAMS, NEW_TOKENS = 5, 256  # of texts that models write down, where neither they nor the caller say how many


class SoundPipeline(Pipeline):
    """A pipeline whose inputs are sounds.

    Paths and addresses of files, their bytes, arrays at the model's rate, or `{"array": …, "sampling_rate": …}` (also
    with "raw"), which is resampled.
    """

    needs: ClassVar[tuple[str, ...]] = ("feature_extractor",)

    def is_single(self, inputs: Any) -> bool:
        """Tell a sound from several; an array is one, with its channels."""
        return super().is_single(inputs) or hasattr(inputs, "ndim")

    def read_sound(self, item: Any) -> Any:
        """Give a sound as samples, at the rate that the feature extractor wants."""
        rate = self.feature_extractor.sampling_rate
        given = rate
        if isinstance(item, str) and item.startswith(("http://", "https://")):
            item = fetch(item, repr(item[:80]), SECONDS, MAX_BYTES)
        if isinstance(item, Mapping):
            samples = item.get("raw", item.get("array"))
            if samples is None or "sampling_rate" not in item:
                raise InputError(f"A sound as a mapping has 'array' and 'sampling_rate'; this has {', '.join(item)}.")
            item, given = samples, item["sampling_rate"]
        if hasattr(item, "ndim"):
            item = to_numpy(item)
        return read_sounds([item], AudioOptions(rate=rate, given=given, resample=True, mono=True))[0]

    def extract(self, clips: list[Any]) -> list[Row]:
        """Give the features of each clip, unpadded."""
        columns = self.feature_extractor(clips, sampling_rate=self.feature_extractor.sampling_rate, padding=False)
        return [Row({name: np.asarray(rows[index]) for name, rows in columns.items()}) for index in range(len(clips))]

    def pad(self, rows: list[dict[str, Any]]) -> Mapping[str, Any]:
        """Bring features to one length."""
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        padded: Mapping[str, Any] = self.feature_extractor.pad(columns, padding=True, return_tensors="pt")
        return padded


@dataclass(kw_only=True)
class AudioClassificationOptions:
    """Options of `audio-classification`: `top_k` labels, None for all, and what turns logits into scores."""

    top_k: int | None = 5
    function_to_apply: str | None = None

    def __post_init__(self) -> None:
        self.function_to_apply = check_function(self.function_to_apply)
        check_count(self.top_k)


class AudioClassificationPipeline(SoundPipeline):
    """Gives the likeliest labels of a sound, `[{"score": 0.9, "label": "yes"}, …]`."""

    task = "audio-classification"
    auto_classes = ("AutoModelForAudioClassification",)
    options_class = AudioClassificationOptions

    def prepare(self, items: list[Any], options: AudioClassificationOptions) -> list[list[Row]]:
        """Read the sounds."""
        return [[row] for row in self.extract([self.read_sound(item) for item in items])]

    def answer(self, rows: list[Row], outputs: list[Any], options: AudioClassificationOptions) -> list[dict[str, Any]]:
        """Name the classes."""
        config = self.model.config
        function = options.function_to_apply or usual_function(config, one_label="softmax")
        return rank(apply_function(function, outputs[0]), config.id2label, options.top_k)


# Speech -----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class SpeechOptions:
    """Options of speech recognition.

    Attributes:
        chunk_length_s: read long sounds in pieces of so many seconds; 0 reads them whole.
        stride_length_s: how many seconds of a piece are heard and not written down, on both sides or as (left, right);
            a sixth of the piece, unless given.
        return_timestamps: "char" or "word" also gives when each was said, in seconds; True, of models that write
            texts, each stretch of speech.
        generate_kwargs: settings of `generate`, of models that write texts: `language`, `task`, `num_beams`, …
    """

    chunk_length_s: float = 0
    stride_length_s: float | tuple[float, float] | list[float] | None = None
    return_timestamps: str | bool | None = None
    generate_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.return_timestamps not in (None, False, True, "char", "word"):
            raise InputError(f"return_timestamps={self.return_timestamps!r}: 'char', 'word' or True.")


class AutomaticSpeechRecognitionPipeline(SoundPipeline):
    """Writes down what is said: `{"text": "…"}`, with `return_timestamps` also its `chunks`.

    By models of CTC, or by those that write texts (`WritingPipeline`).
    """

    task = "automatic-speech-recognition"
    auto_classes = ("AutoModelForCTC", "AutoModelForSpeechSeq2Seq")
    needs = ("feature_extractor", "tokenizer")
    options_class = SpeechOptions

    def __new__(cls, model: Any, *args: Any, **options: Any) -> "AutomaticSpeechRecognitionPipeline":
        """Make the kind that the model needs."""
        writes = cls is AutomaticSpeechRecognitionPipeline and getattr(model, "can_generate", bool)()
        return super().__new__(WritingPipeline if writes else cls)

    def settle(self, options: Mapping[str, Any]) -> SpeechOptions:
        """Check the options of a call, and that the kind of model has them."""
        settled: SpeechOptions = super().settle(options)
        self.check(settled)
        return settled

    def check(self, options: SpeechOptions) -> None:
        """Refuse what only models that write texts do."""
        if options.return_timestamps is True:
            raise InputError("return_timestamps=True: 'char' or 'word' for models of CTC.")
        if options.generate_kwargs:
            raise InputError("generate_kwargs are for models that write texts; this one is of CTC.")

    @property
    def _ratio(self) -> int:
        """How many samples one frame of the model's stands for."""
        return int(getattr(self.model.config, "inputs_to_logits_ratio", 1))

    def prepare(self, items: list[Any], options: SpeechOptions) -> list[list[Row]]:
        """Read the sounds, and cut the long ones into pieces."""
        pieces = [list(self._cut(item, options)) for item in items]
        rows = iter(self.extract([clip for own in pieces for clip, _ in own]))
        prepared = []
        for item, own in zip(items, pieces, strict=True):
            known = {"array", "raw", "path", "sampling_rate", "stride"}
            extra = {name: item[name] for name in item if name not in known} if isinstance(item, Mapping) else {}
            made = [next(rows) for _ in own]
            for row, (_, stride) in zip(made, own, strict=True):
                row.notes = {"stride": stride, "extra": extra}
            prepared.append(made)
        return prepared

    def _cut(self, item: Any, options: SpeechOptions) -> Iterator[tuple[Any, tuple[int, int, int] | None]]:
        """Give the pieces of a sound, each with its length and how much of it is not written down, in samples."""
        samples, rate = self.read_sound(item), self.feature_extractor.sampling_rate
        if not options.chunk_length_s:
            given = item.get("stride") if isinstance(item, Mapping) else None
            yield samples, None if given is None else self._given_stride(given, len(samples), item["sampling_rate"])
            return
        stride = options.chunk_length_s / 6 if options.stride_length_s is None else options.stride_length_s
        both = (stride, stride) if isinstance(stride, int | float) else tuple(stride)
        length, left, right = (
            round(seconds * rate / self._ratio) * self._ratio for seconds in (options.chunk_length_s, *both)
        )
        if length <= left + right:
            raise InputError(
                f"chunk_length_s={options.chunk_length_s} must be more than both strides together, {both[0]:g} and "
                f"{both[1]:g} seconds, or pieces would not move on."
            )
        for start in range(0, len(samples), length - left - right):
            piece = samples[start : start + length]
            is_last = start + length >= len(samples)
            yield piece, (len(piece), left if start else 0, 0 if is_last else right)
            if is_last:
                return

    def _given_stride(self, stride: Any, length: int, rate: float) -> tuple[int, int, int]:
        left, right = (round(samples * self.feature_extractor.sampling_rate / rate) for samples in stride)
        if left + right > length:
            raise InputError(f"stride={tuple(stride)}: more samples than the sound has, {length}.")
        return length, left, right

    def read(self, outputs: Any, rows: list[Row], options: SpeechOptions) -> list[Any]:
        """Keep the likeliest token of each frame."""
        tokens, found = outputs["logits"].argmax(-1).cpu().numpy(), []
        widest = max(row.shape[0] for row in rows)
        for row, own in zip(rows, tokens, strict=True):
            # a shorter sound of a batch has fewer frames; what stands behind them is padding
            found.append(own if row.shape[0] == widest else own[: self._frames(row.shape[0])])
        return found

    def _frames(self, length: int) -> int:
        """Count the frames of so many samples."""
        count = getattr(self.model, "_get_feat_extract_output_lengths", None)
        return int(count(length)) if count is not None else -(-length // self._ratio)

    def answer(self, rows: list[Row], outputs: list[Any], options: SpeechOptions) -> dict[str, Any]:
        """Join the pieces, and turn frames into letters."""
        kept = [_inner(tokens, row.notes["stride"], self._ratio) for row, tokens in zip(rows, outputs, strict=True)]
        tokens = np.concatenate(kept).tolist()
        answer: dict[str, Any] = {"text": self.tokenizer.decode(tokens, skip_special_tokens=False)}
        if kind := options.return_timestamps:
            offsets = {f"output_{kind}_offsets": True}
            decoded = self.tokenizer.decode(tokens, skip_special_tokens=False, **offsets)[f"{kind}_offsets"]
            answer["chunks"] = [{"text": one[kind], "timestamp": self._seconds(one)} for one in decoded]
        return answer | {name: [value] * len(rows) for name, value in rows[0].notes["extra"].items()}

    def _seconds(self, offset: Mapping[str, Any]) -> tuple[float, float]:
        rate = self.feature_extractor.sampling_rate
        first, last = (offset[name] * self._ratio / rate for name in ("start_offset", "end_offset"))
        return first, last


class WritingPipeline(AutomaticSpeechRecognitionPipeline):
    """Writes down what is said, by models that write texts, such as Whisper; recordings may be of any length."""

    def check(self, options: SpeechOptions) -> None:
        """Refuse what only models of CTC do."""
        if options.chunk_length_s or options.stride_length_s:
            raise InputError(
                "chunk_length_s and stride_length_s are for models of CTC: this one hears long recordings window after "
                "window by itself. Leave them out."
            )
        if options.return_timestamps == "char":
            raise InputError("return_timestamps='char': models that write texts tell 'word', or True for stretches.")

    def prepare(self, items: list[Any], options: SpeechOptions) -> list[list[Row]]:
        """Read the sounds, whole."""
        extractor, rows = self.feature_extractor, []
        for item in items:
            clip = self.read_sound(item)
            more = {"truncation": False, "padding": "longest"} if len(clip) > extractor.n_samples else {}
            found = extractor(clip, sampling_rate=extractor.sampling_rate, return_attention_mask=True, **more)
            rows.append([Row({name: np.asarray(column[0]) for name, column in found.items()})])
        return rows

    def forward(self, rows: list[Row], options: SpeechOptions) -> list[Any]:
        """Have the model write; gives ids, and what was said when."""
        own = self.model.generation_config
        how: dict[str, Any] = {"num_beams": BEAMS} if own.num_beams is None else {}
        how |= {"max_new_tokens": NEW_TOKENS} if own.max_new_tokens is None and own.max_length is None else {}
        how |= options.generate_kwargs
        if options.return_timestamps:
            how |= {"return_timestamps": True, "return_segments": True}
        if options.return_timestamps == "word":
            how["return_token_timestamps"] = True
        if how.get("num_return_sequences", 1) != 1 or how.get("return_dict_in_generate"):
            raise InputError(
                "The pipeline gives one text for each sound: call model.generate for several, or for more."
            )
        with torch.inference_mode():
            found = self.model.generate(**self.place(self.gather(rows)), **how)
        if not options.return_timestamps:
            return list(found)
        return list(found["segments"])

    def pad(self, rows: list[dict[str, Any]]) -> Mapping[str, Any]:
        """Bring recordings to one length."""
        longest = max(row["attention_mask"].shape[-1] for row in rows)
        return {name: torch.stack([_widen(torch.as_tensor(row[name]), longest) for row in rows]) for name in rows[0]}

    def answer(self, rows: list[Row], outputs: list[Any], options: SpeechOptions) -> dict[str, Any]:
        """Decode the ids."""
        if not options.return_timestamps:
            return {"text": self._decode(outputs[0].tolist())}
        segments = outputs[0]
        language = options.generate_kwargs.get("language") or getattr(self.tokenizer, "language", None)
        chunks, parts = [], [self._decode(segment["tokens"].tolist()) for segment in segments]
        for text, segment in zip(parts, segments, strict=True):
            if options.return_timestamps == "word":
                chunks += self._find_words(segment, language)
            else:
                times = round(segment["start"], 2), round(segment["end"], 2)
                chunks.append({"text": text, "timestamp": times})
        return {"text": "".join(parts), "chunks": chunks}

    def _find_words(self, segment: Mapping[str, Any], language: Any) -> list[dict[str, Any]]:
        """Give the words of a stretch; each begins where the token before its own ends."""
        begin = self.model.generation_config.no_timestamps_token_id + 1
        tokens, ends = segment["tokens"].tolist(), [round(time, 2) for time in segment["token_timestamps"].tolist()]
        places = [place for place, token in enumerate(tokens) if token < begin]
        starts = [round(segment["start"], 2), *ends]
        words = find_words([tokens[place] for place in places], self._decode, language=language)
        return [{"text": text, "timestamp": (starts[places[first]], ends[places[last]])} for text, first, last in words]

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def _widen(tensor: Any, width: int) -> Any:
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1]))


def _inner(tokens: Any, stride: tuple[int, int, int] | None, ratio: int) -> Any:
    """Take off the frames of a piece that are not written down."""
    if stride is None:
        return tokens
    length, left, right = stride
    frames = round(length / ratio)
    return tokens[round(left / length * frames) : frames - round(right / length * frames)]
