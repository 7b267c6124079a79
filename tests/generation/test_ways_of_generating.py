"""Prompts in pieces, time that is up, healed tokens, and functions of one's own, through `generate`."""

import time
from typing import Any

import pytest
import torch
from generate_cases import PROMPTS, make_llama
from stop_cases import make_tokenizer
from torch import Tensor

from maquette import ConfigurationError, InputError
from maquette.generation.stopping import MaxTimeCriteria

LONG = [[*range(3, 30)], [5], [*range(4, 17)], [7, 8]]


class Widths:
    """Notes the width of each call of a model, in new tokens."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.seen: list[int] = []
        model.register_forward_pre_hook(
            lambda _, args, named: self.seen.append(named["input_ids"].shape[1]), with_kwargs=True
        )


# Prompts in pieces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 4, 27, 100])
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"max_rows": 2}])
def test_prompts_are_read_in_pieces(chunk: int, settings: dict[str, Any]) -> None:
    model = make_llama().double()
    expected = model.generate(LONG, max_new_tokens=5, **settings)
    widths = Widths(model)
    found = model.generate(LONG, max_new_tokens=5, prefill_chunk_size=chunk, **settings)
    assert found.tolist() == expected.tolist()
    assert max(widths.seen) == min(chunk, 27)


# Time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2, "num_return_sequences": 2}])
def test_prompts_that_wait_when_time_is_up_get_nothing(settings: dict[str, Any], monkeypatch: Any) -> None:
    model, now = make_llama(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    model.register_forward_pre_hook(lambda *_: now.__setitem__(0, now[0] + 1.0))
    rows = settings.get("num_return_sequences", 1)
    asked = {"max_time": 2.5, "max_new_tokens": 9, "min_new_tokens": 9, "pad_token_id": 0, **settings}
    out = model.generate(PROMPTS, max_rows=2 * rows, **asked)
    counts = (out[:, 7:] != 0).sum(1).tolist()
    assert counts[: 2 * rows] == [3] * 2 * rows and counts[2 * rows :] == [0] * 2 * rows
    given = model.generate(PROMPTS, max_rows=2 * rows, return_dict_in_generate=True, output_scores=True, **asked)
    assert given.sequences.shape[0] == 4 * rows and MaxTimeCriteria(1.0).deadline == now[0] + 1.0


# Healed tokens ----------------------------------------------------------------------------------------


def test_the_last_token_is_chosen_again_among_those_that_begin_with_it() -> None:
    from maquette import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make_tokenizer())
    names = tokenizer.get_vocab()
    model = make_llama()
    model.resize_token_embeddings(len(names))
    torch.manual_seed(0)
    model.lm_head.weight.data.normal_(std=3.0)
    begin = {name: [i for other, i in names.items() if other.startswith(name)] for name in names}
    tails = sorted((names[name] for name in names if len(begin[name]) > 1), key=lambda i: i)[:4]
    prompts = [[5 + n, 6, tail] for n, tail in enumerate(tails)] + [[9]]
    assert len(tails) > 1
    out = model.generate(prompts, token_healing=True, tokenizer=tokenizer, max_new_tokens=2, min_new_tokens=2)
    by_id = {i: name for name, i in names.items()}
    changed = 0
    for prompt, row in zip(prompts[:-1], out[:-1].tolist(), strict=True):
        with torch.no_grad():
            scores = model(torch.tensor([prompt[:-1]])).logits[0, -1]
        scores[begin[by_id[prompt[-1]]]] += 10.0
        scores[prompt[-1]] += 1.0
        assert row[:3] == [*prompt[:-1], int(scores.argmax())]
        changed += row[2] != prompt[-1]
        assert row[3:] == model.generate([row[:3]], max_new_tokens=2, min_new_tokens=2)[0, 3:].tolist()
    assert changed and out[-1, 2] == 9
    with pytest.raises(ConfigurationError, match="pass tokenizer="):
        model.generate(prompts, token_healing=True, max_new_tokens=2)


# A function of one's own ----------------------------------------------------------------------------------------


def walk(model: Any, input_ids: Tensor, logits_processor: Any, stopping_criteria: Any, generation_config: Any,
         bonus: float = 0.0, **model_kwargs: Any) -> Tensor:  # fmt: skip
    """Take the likeliest token, as those write it who write it for Transformers."""
    mask, cache = model_kwargs["attention_mask"], model_kwargs["past_key_values"]
    new, done = input_ids, torch.zeros(len(input_ids), dtype=torch.bool)
    while not bool(done.all()):
        logits = model(new, attention_mask=mask, past_key_values=cache, use_cache=True).logits[:, -1]
        logits[:, 7] += bonus
        new = logits_processor(input_ids, logits).argmax(-1, keepdim=True)
        new = torch.where(done[:, None], torch.tensor(generation_config.pad_token_id), new)
        input_ids, mask = torch.cat([input_ids, new], dim=1), torch.cat([mask, (~done[:, None]).long()], dim=1)
        done = done | stopping_criteria(input_ids, None)
    return input_ids


def test_a_function_of_ones_own_gets_what_it_needs() -> None:
    model = make_llama()
    asked = {"max_new_tokens": 8, "repetition_penalty": 1.3}
    equal = [[5, 6, 7], [9, 10, 11]]
    assert model.generate(equal, custom_generate=walk, **asked).tolist() == model.generate(equal, **asked).tolist()
    padded = {"input_ids": torch.tensor([[5, 6, 7], [8, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]])}
    found = model.generate(**padded, custom_generate=walk, max_new_tokens=5)
    assert found[1, :3].tolist() == [0, 0, 8]
    assert found[:, 3:].tolist() == model.generate(**padded, max_new_tokens=5)[:, 3:].tolist()
    assert model.generate(equal, custom_generate=walk, bonus=1e6, max_new_tokens=2)[:, 3:].tolist() == [[7, 7]] * 2
    assert not torch.is_grad_enabled() or not found.requires_grad


def test_settings_of_ways_that_are_elsewhere() -> None:
    model, seen = make_llama(), []

    def note(model: Any, input_ids: Tensor, generation_config: Any, **more: Any) -> str:
        seen.append((generation_config.penalty_alpha, generation_config.top_k))
        return "as it gives"

    assert model.generate([[5]], custom_generate=note, penalty_alpha=0.6, top_k=4, max_new_tokens=2) == "as it gives"
    assert seen == [(0.6, 4)]
    for name, value in {"penalty_alpha": 0.6, "dola_layers": "high", "num_beam_groups": 2}.items():
        with pytest.raises(ConfigurationError, match=r"transformers-community/.*custom_generate"):
            model.generate([[5]], max_new_tokens=2, **{name: value})
    with pytest.raises(ConfigurationError, match="Import its function"):
        model.generate([[5]], custom_generate="transformers-community/dola", max_new_tokens=2)
    with pytest.raises(InputError, match="has no argument 'bonus'"):
        model.generate([[5]], bonus=1.0, max_new_tokens=2)
