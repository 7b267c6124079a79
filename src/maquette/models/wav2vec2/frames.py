"""Frames of clips, in whatever framework: how many there are, what makes none, where spans of them are hidden."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from maquette import ConfigurationError

from .configuration import Wav2Vec2Config

Sizes = tuple[int | None, ...]


def count_frames(samples: Any, config: Wav2Vec2Config, *, adapted: bool = False) -> Any:
    """Give how many frames come out for some samples, after the adapter or before; a number or whole ones as tensor."""
    counts = _above_zero((samples - config.receptive_field) // config.inputs_to_logits_ratio + 1)
    for _ in range(config.num_adapter_layers if adapted else 0):
        counts = shrink_adapted(counts, config)
    return counts


def shrink_adapted(frames: Any, config: Wav2Vec2Config) -> Any:
    """Give how many frames one layer of the adapter makes of some; a number or whole ones as tensor."""
    return _above_zero((frames + 2 - config.adapter_kernel_size) // config.adapter_stride + 1)


def _above_zero(n: Any) -> Any:
    is_number = isinstance(n, int) or type(n).__name__ == "SymInt"  # of a tracer; compilers take theirs for an int
    return max(n, 0) if is_number else (n + abs(n)) // 2


def make_waves(config: Wav2Vec2Config) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Give two sounds of 20 frames, for a model to be tried on."""
    samples = config.receptive_field + 19 * config.inputs_to_logits_ratio
    return np.sin(np.arange(2 * samples) * 0.37).astype(np.float32).reshape(2, samples)


# What cannot be -----------------------------------------------------------------------------------------------------


def check_waves(shape: Sizes, kind: Any, config: Wav2Vec2Config, *, mask: Sizes | None) -> None:
    """Compare the shape and type of samples, and the shape of their mask, with what the model takes.

    Args:
        shape: of the samples; None where a compiler leaves a size open.
        kind: their type.
        config: of the model.
        mask: the mask's shape, if there is one.

    Raises:
        ValueError: another shape or type, or too few samples to make a frame.
    """
    least = config.receptive_field
    if len(shape) != 2 or "float" not in str(kind):
        raise ValueError(f"input_values are floating-point (batch, samples), not {kind} {shape}.")
    if shape[1] is not None and shape[1] < least:
        raise ValueError(f"input_values have {shape[1]} samples; a frame takes {least}. Pad, or drop such clips.")
    if mask is not None and (len(mask) != 2 or not all(map(_fits, mask, shape))):
        raise ValueError(f"attention_mask has the shape {mask}, but input_values have {shape}.")


def check_clips(counts: Iterable[int], runs: Iterable[int], config: Wav2Vec2Config) -> None:
    """Look at the clips of a batch.

    Args:
        counts: how many real samples each row has.
        runs: in how many pieces they lie.
        config: of the model.

    Raises:
        ValueError: a clip too short to make a frame, or one that has padding inside.
    """
    least = config.receptive_field
    for row, count in enumerate(counts):
        if 0 < count < least:
            raise ValueError(f"Row {row} has {count} real samples; a frame takes {least}. Drop such clips.")
    if any(count > 1 for count in runs):
        raise ValueError("attention_mask has zeros inside a clip; padding is before or after it.")


def check_hidden(shape: Sizes, frames: Sizes, config: Wav2Vec2Config) -> None:
    """Compare the shape of `mask_time_indices` with that of the frames, `(batch, frames)`.

    Raises:
        ValueError: another shape, or a model that has nothing to hide frames with.
    """
    if not hides_frames(config):
        raise ValueError("mask_time_indices need a model made with mask_time_prob > 0: nothing can hide frames here.")
    if len(shape) != 2 or not all(map(_fits, shape, frames)):
        raise ValueError(f"The frames are (batch, frames) = {frames}; mask_time_indices of {shape} does not fit.")


def hides_frames(config: Wav2Vec2Config) -> bool:
    """Tell whether the model has a vector to put in the place of frames."""
    return config.mask_time_prob > 0 or config.mask_feature_prob > 0


def check_letters(shape: Sizes, rows: int | None, values: Iterable[int], config: Wav2Vec2Config) -> None:
    """Look at the labels of CTC.

    Args:
        shape: of the labels.
        rows: how many clips there are.
        values: the labels that are not -100; none where they cannot be looked at.
        config: of the model.

    Raises:
        ValueError: another shape, or labels that are not in the vocabulary.
    """
    if len(shape) != 2 or not _fits(shape[0], rows):
        raise ValueError(f"labels are (batch, length), for {rows} clips, not {shape}.")
    size, found = config.vocab_size or 0, list(values)
    if any(not 0 <= value < size for value in found):
        raise ValueError(f"labels are from 0 to {size - 1}, or -100: {min(found)} to {max(found)} were given.")


def count_letters(config: Wav2Vec2Config) -> int:
    """Give the size of the vocabulary, in which CTC needs a blank.

    Raises:
        ConfigurationError: there is none.
    """
    size, blank = config.vocab_size, config.pad_token_id
    if size is None or blank is None or not 0 <= blank < size:
        raise ConfigurationError(f"CTC needs a blank in its vocabulary: vocab_size={size}, pad_token_id={blank}.")
    return size


def refuse_adapter(model: Any) -> None:
    """Refuse a configuration with an adapter, for a head that reads every frame."""
    if model.config.add_adapter:
        raise ConfigurationError(f"{type(model).__name__} reads every frame: it needs add_adapter=False.")


def _fits(one: int | None, other: int | None) -> bool:
    return one is None or other is None or one == other


# What is hidden -----------------------------------------------------------------------------------------------------


def place_spans(ops: Any, draws: Any, chance: Any, lengths: Any, *, share: float, span: int, least: int) -> Any:
    """Choose spans to mask, as `masking.compute_mask_indices` does, from random numbers that were drawn before.

    All is traceable: it runs inside of `tf.function` and `jit`.

    Args:
        ops: what to compute with, `keras.ops` or `jax.numpy`.
        draws: `(batch, length)`, from 0 to 1; the least say where spans begin.
        chance: a number from 0 to 1, whether counts are rounded up.
        lengths: `(batch,)`, how many places of each row are real, as floating-point numbers.
        share: the largest share of a row that is masked.
        span: places of a span.
        least: the fewest spans of a row that is long enough for them.

    Returns:
        `(batch, length)`, True where masked.
    """
    length, last = ops.shape(draws)[1], lengths - span  # where a span may begin at the latest
    counts = ops.maximum(ops.floor(share * lengths / span + chance), least)
    counts = ops.minimum(ops.minimum(counts, length // span), ops.maximum(last + 1, 0))
    allowed = ops.less_equal(ops.arange(length), last[:, None])
    ranks = ops.argsort(ops.argsort(ops.where(allowed, draws, 2.0), axis=1), axis=1)
    begun = ops.cumsum(ops.where(ops.less(ranks, counts[:, None]), 1, 0), axis=1)
    begun = ops.pad(begun, ((0, 0), (span, 0)))  # spans begun before each place
    return begun[:, span:] > begun[:, :-span]
