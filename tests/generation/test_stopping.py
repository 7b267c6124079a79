"""When rows end: stop strings against the peer and the whole text, lengths, tokens, time, criteria of one's own."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from stop_cases import STOPS, TEXTS, make_tokenizer
from torch import Tensor

from maquette import ConfigurationError, GenerationConfig, InputError, PreTrainedTokenizerFast
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.stopping import (
    ConfidenceCriteria,
    Ends,
    EosTokenCriteria,
    MaxLengthCriteria,
    MaxTimeCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
    criteria_for,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=make_tokenizer())


def ragged(*rows: list[int]) -> RaggedIds:
    found = RaggedIds.of_prompts([torch.tensor(row) for row in rows])
    found.prompts = [1] * len(rows)
    return found


def test_stop_strings_end_rows_where_the_peer_ends_them(peer_side: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    wanted = json.loads((peer_side / "stops" / "found.json").read_text())
    cases = json.loads((peer_side / "stops" / "stops.json").read_text())
    assert len(cases) == len(STOPS)
    for case, answers in zip(cases, wanted, strict=True):
        criterion = StopStringCriteria(tokenizer, case["strings"])
        for row, ends in zip(case["rows"], answers, strict=True):
            found = [criterion.process(ragged(row[:n]), None)[0] for n in range(1, len(row) + 1)]
            assert found == ends, (case["strings"], tokenizer.decode(row))


@pytest.mark.parametrize(("strings", "texts"), STOPS, ids=lambda value: repr(value[0])[:12])
def test_a_row_ends_with_the_token_that_completes_the_string(
    tokenizer: PreTrainedTokenizerFast, strings: list[str], texts: list[str]
) -> None:
    """Several rows at once, token by token; the first to end is where the string is whole in the text so far."""
    rows = [tokenizer(text)["input_ids"] for text in texts]
    criterion = StopStringCriteria(tokenizer, strings)
    first: dict[int, int] = {}
    for n in range(1, max(map(len, rows)) + 1):
        running = [row for row in range(len(rows)) if row not in first and n <= len(rows[row])]
        done = criterion.process(ragged(*(rows[row][:n] for row in running)), None) if running else []
        first |= {row: n for row, end in zip(running, done, strict=True) if end}
    for row, ids in enumerate(rows):
        whole = [n for n in range(1, len(ids) + 1) if any(each in tokenizer.decode(ids[:n]) for each in strings)]
        assert first.get(row) == (whole[0] if whole else None)


def test_batches_are_answered_too(tokenizer: PreTrainedTokenizerFast) -> None:
    row = tokenizer("stop")["input_ids"]
    answer = StopStringCriteria(tokenizer, "stop")(torch.tensor([row, row[::-1]]), None)
    assert answer.tolist() == [True, False]


def test_rows_end_by_token_length_and_their_prompts_limit() -> None:
    rows = ragged([1, 2, 3, 4], [5, 6], [1, 7])
    assert EosTokenCriteria([6, 4]).process(rows, None) == [True, True, False]
    assert MaxLengthCriteria(4).process(rows, None) == [True, False, False]
    assert MaxLengthCriteria(2)(torch.zeros(2, 2, dtype=torch.long)).tolist() == [True, True]
    rows.texts = [0, 1, 1]
    assert Ends([6], [9, 1])(rows) == [False, True, True]
    assert Ends([], [3, 5])(rows) == [True, False, False]


def test_time_is_up() -> None:
    rows = ragged([1, 2], [3])
    assert MaxTimeCriteria(60.0).process(rows, None) == [False, False]
    assert MaxTimeCriteria(5.0, time.time() - 6).process(rows, None) == [True, True]
    soon = MaxTimeCriteria(0.01)
    time.sleep(0.02)
    assert soon.process(rows, None) == [True, True]


def test_an_unsure_draft_ends() -> None:
    scores = torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    criterion = ConfidenceCriteria(0.6)
    assert criterion.process(ragged([0, 1], [1, 0]), scores) == [True, False]
    assert criterion.process(ragged([0, 1]), None) == [False]


class OwnStyle(StoppingCriteria):
    """Written as for the peer."""

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        assert scores[-1].shape[0] == len(input_ids)
        return input_ids.sum(1) > 10


class Nothing(StoppingCriteria):
    pass


def test_criteria_that_know_batches_get_rows_without_padding() -> None:
    rows = ragged([1, 2, 3, 9], [5, 6], [1, 7], [3])
    scores = torch.zeros(4, 5)
    assert OwnStyle().process(rows, scores) == [True, True, False, False]
    both = StoppingCriteriaList([OwnStyle(), lambda ids, scores: ids.shape[1] == 1])
    assert both.process(rows, scores) == [True, True, False, True]
    assert Ends([7], [50] * 4, both)(rows, scores) == [True, True, True, True]
    batch = torch.tensor([[1, 2], [5, 6]])
    assert both(batch, (scores[:2],)).tolist() == [False, True]
    assert StoppingCriteriaList([MaxLengthCriteria(7), EosTokenCriteria(3)]).max_length == 7


def test_wrong_answers_and_arguments_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="3 answers for 2 rows"):
        StoppingCriteriaList([lambda ids, scores: [True] * 3]).process(ragged([1], [2]), None)
    with pytest.raises(NotImplementedError, match="neither"):
        Nothing().process(ragged([1]), None)
    with pytest.raises(ConfigurationError, match="a letter or more"):
        StopStringCriteria(tokenizer, [])
    with pytest.raises(ConfigurationError, match="pass tokenizer"):
        criteria_for(GenerationConfig(stop_strings="x").settle())


def test_settings_give_their_criteria(tokenizer: PreTrainedTokenizerFast) -> None:
    own = OwnStyle()
    config = GenerationConfig(stop_strings=["x"], max_time=3.0).settle()
    kinds = [type(each) for each in criteria_for(config, tokenizer=tokenizer, custom=[own])]
    assert kinds == [MaxTimeCriteria, StopStringCriteria, OwnStyle]
    assert criteria_for(GenerationConfig().settle()) == [] and len(TEXTS) == 4
