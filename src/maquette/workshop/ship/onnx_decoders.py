"""Decoders as ONNX with their cache outside: keys and values come in, and go out longer, by the names of Optimum."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import InputError
from maquette.generation.cache import Cache
from maquette.generation.open_cache import GivenCache
from maquette.workshop.ship.comparing import Comparison, compare, run_elsewhere
from maquette.workshop.ship.onnx import FILE, READER, describe, export, opset_of, versions, write
from maquette.workshop.ship.sizes import Sizes, Tensors

# What a program is exported with: rows, tokens held, new tokens. No two are alike, nor is the sum.
ROWS, HELD, NEW = 2, 5, 3
STEPS = 6  # tokens that are written for the comparison


class Step(nn.Module):
    """Reads new tokens after those whose keys and values are given."""

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        self.model, self.layers = model, layers

    def forward(self, inputs: dict[str, Tensor]) -> Tensors:
        pairs = [[inputs[f"past_key_values.{n}.{part}"] for n in range(self.layers)] for part in ("key", "value")]
        cache = GivenCache(inputs["position_ids"], inputs["attention_mask"], *pairs)
        found = {"logits": self.model(input_ids=inputs["input_ids"], past_key_values=cache)["logits"]}
        for number, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True)):
            found |= {f"present.{number}.key": keys, f"present.{number}.value": values}
        return found


def find_shapes(model: Any) -> list[tuple[int, int, int]] | None:
    """Give heads, and the widths of keys and values, of each layer that keeps them.

    None where a model writes no texts, or keeps something else.
    """
    if not getattr(model, "can_generate", bool)() or model.main_input_name != "input_ids":
        return None
    given = getattr(model, "dummy_inputs", None) or {}
    if {*given} - {"input_ids", "attention_mask"}:
        return None
    cache = Cache()
    try:
        with torch.no_grad():
            output = model(input_ids=given["input_ids"], past_key_values=cache)
    except Exception:
        return None
    if not len(cache) or not cache.can_rewind or not isinstance(output.get("logits"), Tensor):
        return None
    return [(keys.shape[1], keys.shape[3], values.shape[3]) for keys, values in cache]


def ship_decoder(model: Any, shapes: Sequence[tuple[int, int, int]], staged: Path, work: Path) -> dict[str, Any]:
    """Export a decoder with its cache outside, and compare what it writes with `model.generate`.

    Args:
        model: in evaluation mode, on the CPU.
        shapes: as `find_shapes` gives them.
        staged, work: folders, for the result, and for what goes to and fro.
    """
    example, free = _make_example(model, shapes)
    sizes = Sizes(example, free)
    step = Step(model, len(shapes))
    program = export(step, sizes, model)
    outputs = ["logits", *(f"present.{n}.{part}" for n in range(len(shapes)) for part in ("key", "value"))]
    write(program, staged / FILE, model, inputs=list(example), outputs=outputs, free=sizes)
    return {
        "versions": versions(),
        "opset": opset_of(staged / FILE),
        "inputs": describe(example, free),
        "outputs": outputs,
        "fixed": [],
        "cache": "past_key_values.N.key and .value, present.N.key and .value: (batch, heads, tokens, width)",
        "compared": _compare(model, shapes, staged / FILE, work),
    }


def _make_example(model: Any, shapes: Sequence[tuple[int, int, int]]) -> tuple[Tensors, dict[str, dict[int, str]]]:
    kind = next(x.dtype for x in model.parameters() if x.is_floating_point())
    example = {
        "input_ids": torch.arange(ROWS * NEW).view(ROWS, NEW) % model.config.vocab_size,
        "attention_mask": torch.ones(ROWS, HELD + NEW, dtype=torch.long),
        "position_ids": torch.arange(HELD, HELD + NEW).repeat(ROWS, 1),
    }
    free = {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "held_and_new"}}
    free["position_ids"] = free["input_ids"]
    for number, (heads, *widths) in enumerate(shapes):
        for part, width in zip(("key", "value"), widths, strict=True):
            name = f"past_key_values.{number}.{part}"
            example[name] = torch.zeros(ROWS, heads, HELD, width, dtype=kind)
            free[name] = {0: "batch", 2: "held"}
    return example, free


# Comparing ---------------------------------------------------------------------------------------------------------


def _compare(model: Any, shapes: Sequence[tuple[int, int, int]], file: Path, work: Path) -> list[Comparison]:
    """Have ONNX Runtime read prompts, and what `generate` wrote after them, token by token, and write by itself."""
    calls, expected, job = [], [], []
    for rows, length, chunks in ((3, 7, [7]), (1, 4, [3, 1])):  # a prompt at once, and one in two parts
        prompts, mask = _make_prompts(model, rows, length)
        ids = _generate(model, prompts, mask)
        whole = torch.cat([mask, mask.new_ones(rows, ids.shape[1] - length)], 1)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=whole)["logits"]
        calls.append({"input_ids": ids, "attention_mask": whole})
        expected.append({"logits": logits * whole[..., None]})
        job.append([*chunks, *[1] * (ids.shape[1] - length)])
    kind = str(calls and next(iter(model.parameters())).dtype).removeprefix("torch.")
    found = run_elsewhere(READER, work, calls, model=str(file.resolve()), chunks=job, shapes=list(shapes), dtype=kind)
    results = []
    for call, wanted, other in zip(calls, expected, found, strict=True):
        written = call["input_ids"].shape[1] - STEPS
        other["logits"] = other["logits"] * call["attention_mask"][..., None]
        result = compare(call, wanted, other)
        results.append(result)
        if result.is_equal:
            _require_same_ids(model, call["input_ids"][:, written:], other["logits"][:, written - 1 : -1], result)
    return results


def _require_same_ids(model: Any, ids: Tensor, logits: Tensor, result: Comparison) -> None:
    """Refuse where the best token is another than `generate` took, and not by rounding."""
    best = logits.max(-1)
    lost = best.values - logits.gather(2, ids[..., None])[..., 0]
    if (lost > 2 * result.bound).any():
        raise InputError(
            f"{type(model).__name__}: model.generate writes other tokens than its own logits say, so the exported "
            "model, which has logits only, writes others, too. Does it override generate, or its generation_config "
            "change scores?"
        )


def _make_prompts(model: Any, rows: int, length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    if rows > 1:
        mask[1, : length // 2] = 0  # on the left, as prompts are
    return ids, mask


def _generate(model: Any, prompts: Tensor, mask: Tensor) -> Tensor:
    settings: dict[str, Any] = {"do_sample": False, "num_beams": 1, "max_new_tokens": STEPS, "min_new_tokens": None}
    settings |= {"eos_token_id": None, "pad_token_id": 0, "repetition_penalty": 1.0}
    ids: Tensor = model.generate(prompts, attention_mask=mask, **settings)
    return ids
