"""What `generate` is given for an encoder, and what the decoder of such a model begins with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maquette.errors import InputError
from maquette.generation.prompts import Prompts, read_prompts


def read_source(
    given: Any, kwargs: dict[str, Any], *, name: str, **more: Any
) -> tuple[dict[str, Tensor], list[Tensor] | None]:
    """Take from the arguments of `generate` what the encoder reads, or gave before; gives the ids of texts, too.

    Raises:
        InputError: nothing is given, or what no prompt can be read from.
    """
    given = kwargs.pop(name, None) if given is None else given
    mask, vectors, states = (kwargs.pop(key, None) for key in ("attention_mask", "inputs_embeds", "encoder_outputs"))
    if states is None:
        return read_encoder_inputs(given, mask, vectors, name=name, **more)
    texts = None if given is None else read_encoder_inputs(given, mask, None, name=name, **more)[1]
    return read_encoder_outputs(states, mask, more["device"]), texts


def read_encoder_inputs(
    given: Any, mask: Tensor | None, vectors: Tensor | None, *, name: str, device: Any, **more: Any
) -> tuple[dict[str, Tensor], list[Tensor] | None]:
    """Read what the encoder is to read: arguments of `forward`, with one entry for each prompt, and the ids of texts.

    Padded batches are left as they are, for an encoder may count places; rows of a list are padded on the right.

    Args:
        given: ids `(prompts, length)`, rows of any lengths, or features of another kind, `(prompts, …)`.
        mask: `(prompts, length)`, 0 at padding.
        vectors: `(prompts, length, dim)` in place of ids.
        name: of the argument that takes `given`.
        device: where the inputs are to be.
        more: what `read_prompts` has to know.

    Raises:
        InputError: nothing is given, or what no prompt can be read from.
    """
    if given is None and vectors is None:
        raise InputError(f"generate got nothing for the encoder to read: give {name}, or encoder_outputs.")
    if vectors is not None or (isinstance(given, Tensor) and given.is_floating_point()):
        inputs = {"inputs_embeds" if vectors is not None else name: given if vectors is None else vectors}
        inputs |= {} if mask is None else {"attention_mask": mask}
        return {key: value.to(device) for key, value in inputs.items()}, None
    prompts = read_prompts(given, mask, None, begin=None, device=device, **more)
    if mask is not None:
        return {name: prompts.columns, "attention_mask": mask.to(device)}, prompts.ids
    if isinstance(given, Tensor) and given.ndim == 2 and {*prompts.lengths} == {given.shape[1]}:
        return {name: prompts.columns}, prompts.ids
    ids = torch.nn.utils.rnn.pad_sequence(prompts.ids, batch_first=True)
    places = torch.arange(ids.shape[1], device=device)
    real = (places < torch.tensor(prompts.lengths, device=device)[:, None]).long()
    return {name: ids, "attention_mask": real}, prompts.ids


def read_encoder_outputs(given: Any, mask: Tensor | None, device: Any) -> dict[str, Tensor]:
    """Take states that the encoder gave before, `(prompts, length, dim)`, as arguments of `forward`.

    Raises:
        InputError: it is something else.
    """
    states = given.get("last_hidden_state") if isinstance(given, Mapping) else given
    states = states[0] if isinstance(states, tuple | list) and states else states
    if not isinstance(states, Tensor) or states.ndim != 3:
        raise InputError(
            f"encoder_outputs is {type(given).__name__}: give what the encoder returned, with last_hidden_state of "
            "shape (prompts, length, dim)."
        )
    masks = {} if mask is None else {"attention_mask": mask.to(device)}
    return {"encoder_outputs": states.to(device), **masks}


def read_decoder_prompts(
    given: Any, mask: Tensor | None, *, rows: int, start: Any, completes: bool = True, **more: Any
) -> Prompts:
    """Read what each row of the decoder begins with: the start token, or what is given, with that before it.

    Args:
        given: `decoder_input_ids`, `(prompts, length)` or rows of any lengths; None for the start token alone.
        mask: `decoder_attention_mask`, `(prompts, length)`.
        rows: how many prompts the encoder has.
        start: the start token, or one for each prompt.
        completes: put the start token before what is given where no row begins with it.
        more: what `read_prompts` has to know.

    Raises:
        InputError: no start token is known, or the decoder has another number of rows.
    """
    starts = [int(each) for each in ([] if start is None else start if isinstance(start, Sequence) else [start])]
    if len(starts) not in (0, 1, rows):
        raise InputError(f"decoder_start_token_id names {len(starts)} tokens, and there are {rows} prompts.")
    if given is None and not starts:
        raise InputError(
            "The decoder has no token to begin with: set decoder_start_token_id (or bos_token_id) in the "
            "configuration, or give decoder_input_ids."
        )
    starts = starts * rows if len(starts) == 1 else starts
    if given is None:
        given = torch.tensor(starts)[:, None]
    prompts = read_prompts(given, mask, None, begin=None, **more)
    if mask is None and isinstance(given, Tensor) and more["pad"] in starts and len(starts) == len(prompts):
        prompts = _keep_starts(prompts, starts)
    if len(prompts) != rows:
        raise InputError(f"decoder_input_ids has {len(prompts)} rows, and the encoder's input {rows}: one for each.")
    if not completes or not starts or any(int(row[0]) == first for row, first in zip(prompts.ids, starts, strict=True)):
        return prompts
    before = torch.tensor(starts, device=prompts.columns.device)[:, None]
    return Prompts(torch.cat([before, prompts.columns], dim=1), _put_before(before, prompts.ids))


def _keep_starts(prompts: Prompts, starts: Sequence[int]) -> Prompts:
    """Take a start token that is the one for padding, too, as T5's, for text where it stands first in a row."""
    before = torch.tensor(starts, device=prompts.columns.device)[:, None]
    begun = (prompts.columns[:, :1] == before)[:, 0].tolist()
    pairs = zip(prompts.ids, _put_before(before, prompts.ids), starts, begun, strict=True)
    return Prompts(prompts.columns, [more if has and int(row[0]) != start else row for row, more, start, has in pairs])


def _put_before(first: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    return [torch.cat([one, row]) for one, row in zip(first, rows, strict=True)]
