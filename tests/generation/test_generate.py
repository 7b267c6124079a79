"""`generate` against a loop that computes every row by itself, whole, for every token."""

from typing import Any

import pytest
import torch
from tiny_decoders import TinyConfig, TinyForCausalLM
from torch import Tensor

KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "windows": {"window": 5},
    "recurrent": {"recurrent": True},
}
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17], [1, 2], [3, 3, 3, 3, 3, 3]]


def make(kind: str, **fields: Any) -> TinyForCausalLM:
    torch.manual_seed(0)
    model = TinyForCausalLM(TinyConfig(eos_token_id=2, pad_token_id=0, **KINDS[kind], **fields)).double().eval()
    model.generation_config.eos_token_id = 2
    return model


@torch.no_grad()
def continue_by_hand(model: TinyForCausalLM, prompt: list[int], new: int, ends: set[int] = frozenset({2})) -> list[int]:
    """Take the likeliest token again and again."""
    ids = list(prompt)
    for _ in range(new):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in ends:
            break
    return ids[len(prompt) :]


def pad(rows: list[list[int]], side: str) -> dict[str, Tensor]:
    """Make a padded batch and its mask."""
    width = max(map(len, rows))
    pairs = [([0] * (width - len(row)), row) for row in rows]
    ids = [empty + row if side == "left" else row + empty for empty, row in pairs]
    mask = [[0] * len(e) + [1] * len(r) if side == "left" else [1] * len(r) + [0] * len(e) for e, r in pairs]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def new_tokens(output: Tensor, width: int) -> list[list[int]]:
    """Cut rows behind their end token."""
    rows = output[:, width:].tolist()
    return [row[: row.index(2) + 1] if 2 in row else row for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_out_as_alone(kind) -> None:
    """On either side of padding, as lists, and with fewer slots than rows."""
    model = make(kind)
    expected = [continue_by_hand(model, prompt, 20) for prompt in PROMPTS]
    assert len({len(row) for row in expected}) > 1, "rows should end at different places"
    for inputs in (pad(PROMPTS, "left"), pad(PROMPTS, "right"), {"inputs": PROMPTS}):
        for rows in (None, 2, 1):
            out = model.generate(**inputs, max_new_tokens=20, do_sample=False, max_rows=rows)
            assert new_tokens(out, max(map(len, PROMPTS))) == expected
            shown = inputs.get("input_ids", pad(PROMPTS, "left")["input_ids"])
            assert out[:, : shown.shape[1]].tolist() == shown.tolist()
