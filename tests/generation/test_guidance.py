"""Guidance, with prompts to move away from, against whole forwards of each row and its other prompt."""

from typing import Any

import pytest
import torch
from generate_cases import PROMPTS, make_llama

from maquette.errors import InputError

NEGATIVES = [[4, 4, 9], [30], [7, 7, 7, 7, 1], [3, 2]]


@torch.no_grad()
def continue_by_hand(model: Any, prompt: list[int], negative: list[int], scale: float, count: int) -> list[int]:
    new: list[int] = []
    for _ in range(count):
        with_prompt, without = (
            model(torch.tensor([[*ids, *new]])).logits[0, -1].log_softmax(-1) for ids in (prompt, negative)
        )
        new.append(int((without + scale * (with_prompt - without)).argmax()))
    return new


def cut(rows: list[list[int]], end: int) -> list[list[int]]:
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


@pytest.mark.parametrize(
    "settings", [{}, {"max_rows": 2}, {"use_cache": False}, {"prompt_lookup_num_tokens": 3}, {"max_rows": 1}]
)
def test_rows_move_away_from_their_own_negative_prompts(settings: dict[str, Any]) -> None:
    """Rows come, leave and wait; drafts are checked by the same scores."""
    model = make_llama().double()
    expected = [continue_by_hand(model, p, n, 2.5, 12) for p, n in zip(PROMPTS, NEGATIVES, strict=True)]
    end = expected[0][4]
    expected = cut(expected, end)
    assert len({len(row) for row in expected}) > 1
    asked = {"guidance_scale": 2.5, "max_new_tokens": 12, "eos_token_id": end, **settings}
    out = model.generate(PROMPTS, negative_prompt_ids=NEGATIVES, **asked)
    assert cut(out[:, 7:].tolist(), end) == expected
    expected = [continue_by_hand(model, prompt, prompt[-1:], 2.5, 12) for prompt in PROMPTS]  # from the last token
    assert cut(model.generate(PROMPTS, **asked)[:, 7:].tolist(), end) == cut(expected, end)


def test_beams_are_guided_along_what_they_say() -> None:
    model = make_llama().double()
    asked: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6, "guidance_scale": 1.5}
    mask = torch.tensor([[0, 1, 1]])
    asked |= {"negative_prompt_ids": torch.tensor([[0, 4, 9]]), "negative_prompt_attention_mask": mask}
    out = model.generate(PROMPTS, return_dict_in_generate=True, output_scores=True, **asked)
    uncached = model.generate(PROMPTS, use_cache=False, **asked)
    assert out.sequences.tolist() == uncached.tolist()
    (tokens,) = cut(out.sequences[:1, 7:].tolist(), 2)
    ids = torch.tensor([tokens])
    total = 0.0
    with torch.no_grad():
        for step, token in enumerate(tokens):
            c, u = (
                model(torch.cat([torch.tensor([p]), ids[:, :step]], 1)).logits[0, -1].log_softmax(-1)
                for p in (PROMPTS[0], [4, 9])
            )
            total += float((u + 1.5 * (c - u))[token])
    assert out.sequences_scores[0].item() == pytest.approx(total / len(tokens), abs=1e-5)


def test_what_is_missing_or_has_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    model = make_llama()
    with pytest.raises(InputError, match="3 rows, and there are 4 prompts"):
        model.generate(PROMPTS, guidance_scale=2.0, negative_prompt_ids=NEGATIVES[:3], max_new_tokens=2)
    with pytest.raises(InputError, match="needs negative_prompt_ids"):
        model.generate(inputs_embeds=torch.zeros(1, 2, 32), guidance_scale=2.0, max_new_tokens=2)
    model.generate(PROMPTS, negative_prompt_ids=NEGATIVES, max_new_tokens=1)
    assert "no effect without guidance_scale" in caplog.text
