"""Settings and functions of one's own through `generate`: rows of several lengths, each against its own plain text."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from stop_cases import make_tokenizer
from tiny_decoders import TinyConfig, TinyForCausalLM
from torch import Tensor

from maquette import (
    ConfigurationError,
    GenerationConfig,
    LogitsProcessor,
    PreTrainedTokenizerFast,
    StoppingCriteria,
    TextStreamer,
)

TEXTS = ["the stop sign", "naïve café 🙂", "a", "goes on and on: stopping, STOP!"]
NEW = 20


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=make_tokenizer())


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> TinyForCausalLM:
    torch.manual_seed(0)
    return TinyForCausalLM(TinyConfig(vocab_size=len(tokenizer), pad_token_id=0)).double().eval()


@pytest.fixture(scope="module")
def prompts(tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text in TEXTS]


def continued(model: TinyForCausalLM, prompts: Sequence[list[int]], **options: Any) -> list[list[int]]:
    """Give each row's new tokens, without padding (no row is given the id 0)."""
    found = model.generate(prompts, suppress_tokens=[0], **{"max_new_tokens": NEW, "max_rows": 3, **options})
    rows = found[:, max(map(len, prompts)) :].tolist()
    return [row[: row.index(0)] if 0 in row else row for row in rows]


@pytest.fixture(scope="module")
def plain(model: TinyForCausalLM, prompts: list[list[int]]) -> list[list[int]]:
    return continued(model, prompts)


def test_each_row_ends_with_its_own_stop_string(
    model: TinyForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]], plain: list[list[int]]
) -> None:
    whole = [tokenizer.decode(row) for row in plain]
    letter = next(c for c in whole[0][3:] if c.isascii() and c.strip())
    pair = next(whole[1][n : n + 2] for n in range(5, len(whole[1])) if "\ufffd" not in whole[1][n : n + 2])
    for strings in (letter, [pair], [letter, pair]):
        found = continued(model, prompts, stop_strings=strings, tokenizer=tokenizer)
        for row, prompt, ids in zip(found, prompts, plain, strict=True):
            texts = [tokenizer.decode([*prompt, *ids[:n]]) for n in range(len(ids) + 1)]
            known = len(tokenizer.decode(prompt).rstrip("\ufffd"))
            each = [strings] if isinstance(strings, str) else strings
            ends = [
                n
                for n, text in enumerate(texts)
                if n and any(text.find(s, max(known - len(s) + 1, 0)) >= 0 for s in each)
            ]
            assert row == ids[: ends[0] if ends else None]
    with pytest.raises(ConfigurationError, match="tokenizer"):
        model.generate(prompts, stop_strings="x", max_new_tokens=2)


class Sums(StoppingCriteria):
    """Ends a row once its ids add up; written for batches."""

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return input_ids.sum(1) > 2500


class Parity(LogitsProcessor):
    """Allows even and odd ids by turns; written for batches."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.clone()
        scores[:, input_ids.shape[1] % 2 :: 2] = -torch.inf
        return scores


def test_criteria_and_processors_of_ones_own(
    model: TinyForCausalLM, prompts: list[list[int]], plain: list[list[int]]
) -> None:
    found = continued(model, prompts, stopping_criteria=[Sums()])
    for row, prompt, ids in zip(found, prompts, plain, strict=True):
        ends = [n for n in range(1, NEW + 1) if sum(prompt) + sum(ids[:n]) > 2500]
        assert row == ids[: ends[0] if ends else None]
    assert len({len(row) for row in found}) > 1
    for row, prompt in zip(continued(model, prompts, logits_processor=[Parity()]), prompts, strict=True):
        assert [token % 2 for token in row] == [(len(prompt) + n + 1) % 2 for n in range(NEW)]


def test_allowed_tokens_know_the_prompts_number(model: TinyForCausalLM, prompts: list[list[int]]) -> None:
    def allowed(number: int, ids: Tensor) -> list[int]:
        return [10 * number + 5, 10 * number + 6] if len(ids) % 2 else [10 * number + 7]

    for options in ({}, {"num_beams": 2}, {"do_sample": True, "seed": 1}):
        found = continued(model, prompts, prefix_allowed_tokens_fn=allowed, max_new_tokens=6, **options)
        for number, (row, prompt) in enumerate(zip(found, prompts, strict=True)):
            for n, token in enumerate(row):
                assert token in allowed(number, torch.tensor([*prompt, *row[:n]]))


def test_time_that_is_up_ends_all_rows(model: TinyForCausalLM, prompts: list[list[int]]) -> None:
    """Those that are read together get one token, those that wait get none."""
    for rows in (3, len(prompts)):
        found = continued(model, prompts, max_time=1e-9, max_rows=rows)
        assert [len(row) for row in found] == [1] * rows + [0] * (len(prompts) - rows)


def test_a_streamer_prints_what_is_generated(
    model: TinyForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    plain: list[list[int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    continued(model, prompts[1:2], streamer=TextStreamer(tokenizer))
    assert capsys.readouterr().out == tokenizer.decode([*prompts[1], *plain[1]]) + "\n"


def test_sampled_rows_with_every_setting_do_not_see_each_other(
    model: TinyForCausalLM, prompts: list[list[int]]
) -> None:
    settings = {"do_sample": True, "seed": 5, "temperature": 30.0, "top_k": 30, "top_p": 0.9, "min_p": 0.01}
    settings |= {"typical_p": 0.95, "repetition_penalty": 1.2, "frequency_penalty": 0.5, "presence_penalty": 0.5}
    settings |= {"no_repeat_ngram_size": 3, "min_new_tokens": 3, "bad_words_ids": [[40], [41, 42]]}
    together = continued(model, prompts, num_return_sequences=2, **settings)
    assert len({tuple(row) for row in together}) == 2 * len(prompts)
    for rows in (1, 5):
        assert continued(model, prompts, num_return_sequences=2, **{**settings, "max_rows": rows}) == together
    assert continued(model, prompts[:1], num_return_sequences=2, **settings) == together[:2]


def test_a_files_length_counts(
    model: TinyForCausalLM, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    longest = max(map(len, prompts))
    file = GenerationConfig.from_dict({"max_length": longest + 4})
    monkeypatch.setitem(model.__dict__, "_generation_config", file)
    found = continued(model, prompts, max_new_tokens=None)
    assert [len(row) for row in found] == [longest + 4 - len(prompt) for prompt in prompts]
    assert "says how long" not in caplog.text
