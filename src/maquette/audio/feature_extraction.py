"""Feature extractors: settings of what turns sounds into a model's inputs, and clips of many lengths into one array."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NoReturn

import numpy as np
from msgspec import Meta

from maquette.audio.clips import AudioOptions, read_sounds
from maquette.audio.files import Samples
from maquette.audio.padding import PaddingPlan, Put
from maquette.batch.features import BatchFeature
from maquette.batch.padding import as_columns
from maquette.batch.tensors import check_framework, framework_of, to_numpy, to_tensor
from maquette.errors import InputError, UnknownFieldError, did_you_mean
from maquette.processing.settings import PreprocessingMixin


class FeatureExtractionMixin(PreprocessingMixin):
    """Base of every feature extractor: checked settings, printed and saved as JSON.

    Class attributes:
        model_input_names: what a call gives; the first is what `pad` goes by.
    """

    _section = "feature_extractor"
    _default_auto_class = "AutoFeatureExtractor"
    model_input_names: ClassVar[list[str]] = []

    @classmethod
    def _refuse_keywords(cls, unknown: Mapping[str, Any]) -> None:
        """Refuse keywords that the call does not take.

        Raises:
            UnknownFieldError: with the nearest names.
        """
        if unknown:
            known = [name for name in inspect.signature(cls.__call__).parameters if name not in ("self", "unknown")]
            lines = (f"{cls.__name__}: the call takes no {name!r}.{did_you_mean(name, known)}" for name in unknown)
            raise UnknownFieldError("\n".join(lines))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Turn raw data into a model's inputs; every feature extractor writes its own."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__.")


class SequenceFeatureExtractor(FeatureExtractionMixin):
    """Base of feature extractors for sounds: it reads clips, and pads what was made of them.

    A feature extractor of your own reads its input with `read_clips`, computes, and ends with `pad`.

    Settings:
        feature_size: how many numbers there are for each moment; 1 for plain samples.
        sampling_rate: how many samples a second the model was trained with.
        padding_value: what padded places hold.
        padding_side: "right" or "left".
        return_attention_mask: whether a call gives `attention_mask`, unless told otherwise.
    """

    model_input_names: ClassVar[list[str]] = ["input_values", "attention_mask"]
    feature_size: Annotated[int, Meta(ge=1)] = 1
    sampling_rate: Annotated[int, Meta(gt=0)] = 16000
    padding_value: float = 0.0
    padding_side: Literal["right", "left"] = "right"
    return_attention_mask: bool = True

    def read_clips(
        self,
        audio: Any,
        *,
        sampling_rate: float | None = None,
        resample: bool = False,
        mono: bool = False,
        rescale: bool = False,
    ) -> list[Samples]:
        """Give each clip as float32 samples, `(samples,)`, at the rate of this feature extractor.

        Args:
            audio: a clip or a batch of clips: arrays, tensors, lists of numbers, paths or bytes of sound files, or
                mappings with `array` and `sampling_rate`. A 2-D array is a batch, one clip a row.
            sampling_rate: how many samples a second the arrays have; files say it themselves.
            resample: bring clips of another rate to this one's, instead of refusing them.
            mono: average channels, instead of refusing clips that have several; a 2-D array is then one clip.
            rescale: divide integer samples by the full scale of their type (32768 for int16), instead of refusing them.

        Raises:
            InputError, FileFormatError, MissingFileError: naming the clip: empty, NaN, of another rate, and so on.
        """
        wanted = AudioOptions(
            rate=self.sampling_rate, given=sampling_rate, resample=resample, mono=mono, rescale=rescale
        )
        return read_sounds(audio, wanted)

    def pad(
        self,
        processed_features: Any,
        padding: bool | str = True,
        *,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Bring features to one length, as a data collator does: by name, or a list of such mappings.

        Args:
            processed_features: the model's main input, `(length,)` or `(length, feature_size)` for each row, as arrays,
                tensors or lists; with an `attention_mask`, if there is one. Other columns are passed on.
            padding: True or "longest", "max_length", or False.
            max_length: for `padding="max_length"` and `truncation`; rounded up to the multiple.
            truncation: cut rows longer than `max_length`, at their end.
            return_tensors: "np", "pt", "tf" or "jax"; unless given, what the features are.

        Raises:
            InputError: the main input is not there, or rows do not go together; the message says which.
        """
        columns = as_columns(processed_features)
        rows = self._feature_rows(columns)
        if not rows:
            return BatchFeature({**columns, **({"attention_mask": []} if self._masks(return_attention_mask) else {})})
        main = self.model_input_names[0]
        tensors = return_tensors or _framework_in(columns[main])
        layout = PaddingPlan.plan(
            [len(row) for row in rows],
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            multiple=pad_to_multiple_of,
            side=padding_side or self.padding_side,
        )
        data: dict[str, Any] = {**columns, main: layout.fill(rows, self.padding_value, np.positive)}
        if (given := columns.get("attention_mask")) is not None:
            data["attention_mask"] = layout.fill(_mask_rows(given, rows), 0, np.positive)
        elif self._masks(return_attention_mask):
            data["attention_mask"] = layout.mask()
        return _as_tensors(data, tensors if return_tensors or len({*layout.sizes}) == 1 else None, layout, main)

    def _masks(self, chosen: bool | None) -> bool:
        return self.return_attention_mask if chosen is None else chosen

    def _feature_rows(self, columns: Mapping[str, Any]) -> list[Samples]:
        """Give the rows of the main input as arrays of one number type, alike but for their lengths."""
        main = self.model_input_names[0]
        if main not in columns:
            raise InputError(f"pad() needs {main!r}.{did_you_mean(main, columns)} It was given: {', '.join(columns)}.")
        value = columns[main]
        rows = [_as_row(row, f"{main}[{i}]") for i, row in enumerate([value] if self._is_one_row(value) else value)]
        shapes = {row.shape[1:] for row in rows}
        if len(shapes) > 1:
            odd = next(i for i, row in enumerate(rows) if row.shape[1:] != rows[0].shape[1:])
            raise InputError(
                f"{main}[{odd}] has the shape {rows[odd].shape} and {main}[0] {rows[0].shape}: only the first axis, "
                "time, may differ."
            )
        kinds = {row.dtype.kind for row in rows}
        whole = kinds <= {"i", "u"} and float(self.padding_value).is_integer()
        dtype = np.result_type(*rows) if rows and whole else np.float32
        return [row.astype(dtype, copy=False) for row in rows]

    def _is_one_row(self, value: Any) -> bool:
        """Tell a single example from a batch of them."""
        if framework_of(value):
            return bool(value.ndim == (1 if self.feature_size == 1 else 2))
        return bool(len(value)) and isinstance(value[0], int | float | np.number)

    def _collate(
        self,
        clips: list[Samples],
        put: Put,
        *,
        padding: bool | str,
        max_length: int | None,
        truncation: bool,
        pad_to_multiple_of: int | None,
        padding_side: str | None,
        return_attention_mask: bool | None,
        return_tensors: str | None,
    ) -> BatchFeature:
        """Write every clip through `put` to its place in the result, which is filled once."""
        layout = PaddingPlan.plan(
            [len(clip) for clip in clips],
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            multiple=pad_to_multiple_of,
            side=padding_side or self.padding_side,
        )
        main = self.model_input_names[0]
        data: dict[str, Any] = {main: layout.fill(clips, self.padding_value, put)}
        if self._masks(return_attention_mask):
            data["attention_mask"] = layout.mask()
        return self._as_batch(data, return_tensors, layout)

    def _as_batch(self, data: dict[str, Any], return_tensors: str | None, layout: PaddingPlan) -> BatchFeature:
        """Give what a call made: lists of rows, or tensors of the framework that is asked for."""
        if return_tensors is None:
            return BatchFeature({name: list(rows) for name, rows in data.items()})
        return _as_tensors(data, return_tensors, layout, self.model_input_names[0])


def _as_row(row: Any, name: str) -> Samples:
    array = to_numpy(row)
    if not isinstance(array, np.ndarray) or not array.ndim or array.dtype.kind not in "iuf":
        raise InputError(f"{name} is no array of numbers, (length,) or (length, feature_size).")
    return array


def _mask_rows(given: Any, rows: list[Samples]) -> list[Samples]:
    """Give the rows of an attention mask that came with the features, or say which does not fit."""
    single = framework_of(given) and given.ndim == 1
    masks = [np.asarray(to_numpy(mask), np.int32) for mask in ([given] if single else given)]
    if len(masks) != len(rows):
        raise InputError(f"attention_mask has {len(masks)} rows, and there are {len(rows)} rows of features.")
    for index, (mask, row) in enumerate(zip(masks, rows, strict=True)):
        if mask.shape != (len(row),):
            raise InputError(
                f"attention_mask[{index}] has the shape {mask.shape}, and that row of features a length of {len(row)}."
            )
    return masks


def _framework_in(value: Any) -> str:
    """Tell which framework's tensors the rows are; numpy's where they are no tensors."""
    rows = value if isinstance(value, list | tuple) else [value]
    return framework_of(value) or (framework_of(rows[0]) if rows else None) or "np"


def _as_tensors(data: dict[str, Any], tensors: str | None, layout: PaddingPlan, main: str) -> BatchFeature:
    """Give arrays as the framework's tensors.

    Raises:
        InputError: rows of different lengths cannot be one tensor.
    """
    if tensors is None:
        return BatchFeature(data)
    framework = check_framework(tensors)
    if len({*layout.sizes}) > 1:
        _refuse_ragged(layout, main)
    own = {main, "attention_mask"} & data.keys()
    ready = {name: to_tensor(data[name], framework) for name in own}
    rest = BatchFeature({name: value for name, value in data.items() if name not in own}, tensors)
    return BatchFeature({name: ready.get(name, rest.get(name)) for name in data})


def _refuse_ragged(layout: PaddingPlan, main: str) -> NoReturn:
    shortest, longest = np.argmin(layout.sizes), np.argmax(layout.sizes)
    raise InputError(
        f"{main} cannot be one tensor: clip {shortest} has a length of {layout.sizes[shortest]}, clip {longest} of "
        f"{layout.sizes[longest]}. Pass padding=True, and with max_length truncation=True, or leave return_tensors out."
    )
