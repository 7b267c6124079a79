"""Functions on logits: the peer's numbers on batches, on ragged rows those of each row alone, and brute force."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from logit_cases import CASES, CHAINS, ENDS, LENGTHS, ROWS, STEPS, STEPS_PROMPT, VOCABULARY, WIDTH, make_inputs
from torch import Tensor

from maquette import (
    ConfigurationError,
    GenerationConfig,
    InputError,
    PretrainedConfig,
    SynthIDTextWatermarkingConfig,
    SynthIDTextWatermarkLogitsProcessor,
    WatermarkDetector,
)
from maquette.generation import constraints, guidance, logits, penalties, truncation, watermarks
from maquette.generation.constraints import PrefixConstrainedLogitsProcessor
from maquette.generation.logits import LogitsProcessor, LogitsProcessorList
from maquette.generation.processors import processors_for
from maquette.generation.ragged_ids import RaggedIds

# The largest number among the scores and what is computed from them is about 10; one rounding of it is 1e-6.
NEAR = {"rtol": 2e-6, "atol": 2e-6}


def tensors() -> tuple[Tensor, Tensor]:
    ids, scores = make_inputs()
    return torch.from_numpy(ids), torch.from_numpy(scores)


@pytest.fixture(scope="module")
def theirs(peer_side: Path) -> dict[str, Tensor]:
    with np.load(peer_side / "logits" / "outputs.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


def make(name: str) -> LogitsProcessor:
    kind, arguments = CASES[name]
    for module in (truncation, penalties, constraints, watermarks):
        if hasattr(module, kind):
            break
    if module is watermarks:
        names = ("greenlist_ratio", "bias", "hashing_key", "seeding_scheme", "context_width")
        return watermarks.WatermarkLogitsProcessor(*arguments[:2], **dict(zip(names, arguments[2:], strict=False)))
    return getattr(module, kind)(*arguments)


def ragged() -> tuple[RaggedIds, Tensor]:
    """Give the rows with rubbish behind them, of no prompt."""
    ids, scores = tensors()
    for row, length in enumerate(LENGTHS):
        ids[row, length:] = 10**6 if row == 1 else 4
    return RaggedIds(ids, LENGTHS, prompts=[0] * ROWS), scores


@pytest.mark.parametrize("name", CASES)
def test_batches_get_the_peers_numbers(theirs: dict[str, Tensor], name: str) -> None:
    ids, scores = tensors()
    before = scores.clone()
    torch.testing.assert_close(make(name)(ids, scores), theirs[f"batch/{name}"], **NEAR)
    assert torch.equal(scores, before)  # what was given is left alone


@pytest.mark.parametrize("name", [name for name in CASES if name != "suppressed at the start"])
def test_ragged_rows_get_what_the_peer_gives_each_alone(theirs: dict[str, Tensor], name: str) -> None:
    rows, scores = ragged()
    found = make(name).process(rows, scores)
    for row in range(ROWS):
        torch.testing.assert_close(found[row], theirs[f"row/{name}/{row}"][0], **NEAR)


@pytest.mark.parametrize("name", CHAINS)
def test_settings_give_the_peers_chain(theirs: dict[str, Tensor], name: str) -> None:
    ids, scores = tensors()
    rows = RaggedIds(ids, LENGTHS, prompts=LENGTHS)
    config = GenerationConfig(**CHAINS[name]).settle()
    found = processors_for(config, ends=ENDS, vocab_size=VOCABULARY).process(rows, scores)
    for row in range(ROWS):
        torch.testing.assert_close(found[row], theirs[f"chain/{name}/{row}"][0], **NEAR)


@pytest.fixture(scope="module")
def their_steps(peer_side: Path) -> dict[str, Any]:
    with np.load(peer_side / "logits" / "steps.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize("name", STEPS)
def test_synthid_marks_every_step_as_the_peer_does(their_steps: dict[str, Any], name: str) -> None:
    """Called as the peer calls it, over ragged rows that repeat contexts, and rows that nothing is remembered of."""
    ids, scores = tensors()
    ids, process = ids % 2, SynthIDTextWatermarkLogitsProcessor(*STEPS[name])
    lengths, changed = range(STEPS_PROMPT, WIDTH + 1), 0
    expected = {length: torch.from_numpy(their_steps[f"{name}/{length}"]) for length in lengths}
    for length in lengths:
        found = process(ids[:, :length], scores)
        torch.testing.assert_close(found, expected[length], **NEAR)
        changed += int((found != scores).any(1).sum())
    assert 0 < changed < ROWS * len(lengths) or name == "uniform"
    uneven = [STEPS_PROMPT, 4, WIDTH, 6]
    rows = RaggedIds(ids, uneven, prompts=[STEPS_PROMPT] * ROWS)
    found = SynthIDTextWatermarkLogitsProcessor(*STEPS[name]).process(rows, scores)
    for row, length in enumerate(uneven):
        torch.testing.assert_close(found[row], expected[length][row], **NEAR)


@pytest.mark.parametrize(("scheme", "width"), [("lefthash", 1), ("lefthash", 3), ("selfhash", 2)])
@pytest.mark.parametrize("once", [False, True])
def test_marks_are_found_as_the_peer_finds_them(
    their_steps: dict[str, Any], scheme: str, width: int, once: bool
) -> None:
    marking = {"greenlist_ratio": 0.4, "seeding_scheme": scheme, "context_width": width}
    config = PretrainedConfig(bos_token_id=VOCABULARY, extra={"vocab_size": VOCABULARY})
    detect = WatermarkDetector(config, "cpu", marking, ignore_repeated_ngrams=once)
    found = detect(tensors()[0], return_dict=True)
    for field in found._fields:
        np.testing.assert_allclose(getattr(found, field), their_steps[f"{scheme}/{width}/{once}/{field}"], rtol=1e-6)
    assert detect([[1, 2, 3, 4, 5], [2, 3, 4, 5]]).shape == (2,)
    with pytest.raises(InputError, match="Text 1 has 1 tokens"):
        detect([[1, 2, 3, 4], [VOCABULARY, 3]])


def test_what_synthid_cannot_be_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)ngram_len.*keys.*context_history_size.*sampling_table_size"):
        SynthIDTextWatermarkingConfig(1, [], context_history_size=-1, sampling_table_size=2**25)
    with pytest.raises(ConfigurationError, match="SynthIDTextWatermarkingConfig needs ngram_len"):
        GenerationConfig(watermarking_config={"keys": [1]})
    with pytest.raises(ConfigurationError, match="bais; WatermarkingConfig knows"):
        GenerationConfig(watermarking_config={"bais": 2.0})
    rows, scores = RaggedIds(torch.zeros(1, 0, dtype=torch.long), [0], prompts=[0]), torch.randn(1, VOCABULARY)
    assert SynthIDTextWatermarkLogitsProcessor(*STEPS["plain"]).process(rows, scores).shape == scores.shape
    config = SynthIDTextWatermarkingConfig(5, [1, 2])
    assert GenerationConfig(watermarking_config=config, max_length=5).watermarking_config == config.to_dict()


def test_a_large_vocabulary_is_cut_as_a_sorted_one() -> None:
    """With more tokens than the first look takes in: flat and sharp rows."""
    scores = torch.randn(3, 4000, generator=torch.Generator().manual_seed(1)) * torch.tensor([[0.1], [1.0], [6.0]])
    found = truncation.TopPLogitsWarper(0.9)(torch.zeros(3, 1, dtype=torch.long), scores)
    for row, values in enumerate(scores.double().softmax(-1)):
        order = values.argsort(descending=True)
        count = int((values[order].cumsum(-1) < 0.9).sum()) + 1
        kept = int(found[row].isfinite().sum())
        assert abs(kept - count) <= (2 if row == 0 else 0)  # 3,700 probabilities of 2.5e-4 add up to float32's error
        assert set(order[: min(kept, count)].tolist()) <= set(found[row].isfinite().nonzero()[:, 0].tolist())


# Brute force ----------------------------------------------------------------------------------------------------


def test_penalties_of_what_was_generated_count_it() -> None:
    rows, scores = ragged()
    rows.prompts = [2, 3, 0, 4]
    often = penalties.FrequencyPenaltyLogitsProcessor(0.5).process(rows, scores)
    once = penalties.PresencePenaltyLogitsProcessor(0.5).process(rows, scores)
    for row, (length, prompt) in enumerate(zip(LENGTHS, rows.prompts, strict=True)):
        new = rows.ids[row, prompt:length].tolist()
        for token in range(VOCABULARY):
            assert often[row, token] == scores[row, token] - 0.5 * new.count(token)
            assert once[row, token] == scores[row, token] - 0.5 * (token in new)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_encoders_ngrams_are_forbidden(size: int) -> None:
    rows, scores = ragged()
    source = torch.tensor([[0, 1, 2, 0, 1, 3], [1, 2, 1, 2, 1, 1]])
    rows.texts = [0, 1, 1, 0]
    found = penalties.EncoderNoRepeatNGramLogitsProcessor(size, source).process(rows, scores)
    for row, length in enumerate(LENGTHS):
        text, ids = source[rows.texts[row]].tolist(), rows.ids[row, :length].tolist()
        ends = tuple(ids[len(ids) - size + 1 :]) if length >= size - 1 else None
        bad = {text[i + size - 1] for i in range(len(text) - size + 1) if tuple(text[i : i + size - 1]) == ends}
        for token in range(VOCABULARY):
            assert found[row, token] == (-math.inf if token in bad else scores[row, token])


def test_an_encoders_tokens_count_more() -> None:
    ids, scores = tensors()
    source = torch.tensor([[1, 2, 3], [4, 5, 6]])
    found = penalties.EncoderRepetitionPenaltyLogitsProcessor(2.0, source)(ids, scores)  # two beams of each text
    for row, token in itertools.product(range(ROWS), range(VOCABULARY)):
        score = float(scores[row, token])
        wanted = (score * 2 if score > 0 else score / 2) if token in source[row // 2] else score
        assert found[row, token] == wanted


def test_ragged_rows_know_their_prompts() -> None:
    ids, scores = tensors()
    rows = RaggedIds(ids, LENGTHS, prompts=[4, 3, 0, 6])  # 5, 0, 1 and 0 new tokens
    least = constraints.MinNewTokensLengthLogitsProcessor(0, 2, ENDS).process(rows, scores)
    assert least[:, ENDS].isneginf().all(1).tolist() == [False, True, True, True]
    start = constraints.SuppressTokensAtBeginLogitsProcessor([7], 0).process(rows, scores)
    assert start[:, 7].isneginf().tolist() == [False, True, False, True]
    last = constraints.ForcedEOSTokenLogitsProcessor(None, 3, max_new_tokens=6).process(rows, scores)
    assert last.isfinite().sum(1).tolist() == [1, VOCABULARY, VOCABULARY - 1, VOCABULARY]
    decay = constraints.ExponentialDecayLengthPenalty((3, 1.5), ENDS, 0).process(rows, scores)
    wanted = scores[0, ENDS] + scores[0, ENDS].abs() * (1.5**2 - 1)
    torch.testing.assert_close(decay[0, ENDS], wanted) and torch.testing.assert_close(decay[1:], scores[1:])


def test_allowed_tokens_are_asked_for_with_the_prompts_number_and_the_rows_own_ids() -> None:
    rows, scores = ragged()
    rows.texts = [0, 0, 1, 1]
    asked: list[tuple[int, list[int]]] = []

    def allowed(text: int, ids: Tensor) -> list[int]:
        asked.append((text, ids.tolist()))
        return [text, len(ids)]

    found = PrefixConstrainedLogitsProcessor(allowed, 2).process(rows, scores)
    assert asked == [(text, rows.row(row).tolist()) for row, text in enumerate(rows.texts)]
    for row, length in enumerate(LENGTHS):
        assert found[row].isfinite().nonzero()[:, 0].tolist() == sorted({rows.texts[row], length})
    with pytest.raises(ConfigurationError, match="allows no token"):
        PrefixConstrainedLogitsProcessor(lambda text, ids: [], 1).process(rows, scores)


def test_what_alone_is_allowed_is_allowed_though_it_was_forbidden() -> None:
    rows, scores = ragged()
    scores[:, 3] = -math.inf
    found = PrefixConstrainedLogitsProcessor(lambda text, ids: [3] if text else [3, 4], 1).process(rows, scores)
    assert [row.isfinite().nonzero()[:, 0].tolist() for row in found] == [[4], [3], [3], [3]]


def test_guidance_moves_away_from_what_is_said_without_the_prompt() -> None:
    rows, scores = ragged()
    without = torch.randn(scores.shape, generator=torch.Generator().manual_seed(3))
    found = guidance.GuidanceLogitsProcessor(1.7, lambda _: without).process(rows, scores)
    c, u = scores.double().log_softmax(-1), without.double().log_softmax(-1)
    torch.testing.assert_close(found.double(), u + 1.7 * (c - u), rtol=1e-5, atol=1e-5)
    batch = guidance.ClassifierFreeGuidanceLogitsProcessor(1.7)(rows.ids, torch.cat([scores, without]))
    torch.testing.assert_close(batch, without + 1.7 * (scores - without))
    with pytest.raises(InputError, match="two rows"):
        guidance.ClassifierFreeGuidanceLogitsProcessor(1.7)(rows.ids, scores)


# One's own ------------------------------------------------------------------------------------------------------


class OwnStyle(LogitsProcessor):
    """Written as for the peer: it derives from the base and knows batches only."""

    def __init__(self) -> None:
        self.seen: list[list[list[int]]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.seen.append(input_ids.tolist())
        scores = scores.clone()
        scores[:, 0] = input_ids.sum(1).float()
        return scores


def own_function(input_ids: Tensor, scores: Tensor) -> Tensor:
    return scores + input_ids.shape[1]


def test_functions_that_know_batches_get_rows_of_one_length_without_padding() -> None:
    rows, scores = ragged()
    own = OwnStyle()
    found = LogitsProcessorList([own, own_function]).process(rows, scores)
    for row, length in enumerate(LENGTHS):
        assert found[row, 0] == rows.row(row).sum() + length
        torch.testing.assert_close(found[row, 1:], scores[row, 1:] + length)
    assert sorted(map(len, own.seen)) == [1] * ROWS
    ids, _ = tensors()
    own.seen.clear()
    own.process(RaggedIds.of_batch(ids), scores)
    assert own.seen == [ids.tolist()]  # all at once, where none is shorter


def test_a_list_hands_arguments_to_those_that_name_them() -> None:
    def with_more(input_ids: Tensor, scores: Tensor, factor: float) -> Tensor:
        return scores * factor

    ids, scores = tensors()
    found = LogitsProcessorList([own_function, with_more])(ids, scores, factor=2.0)
    torch.testing.assert_close(found, (scores + WIDTH) * 2.0)
    with pytest.raises(InputError, match="factor"):
        LogitsProcessorList([with_more])(ids, scores, other=1)


def test_scores_of_another_shape_are_refused() -> None:
    rows, scores = ragged()
    with pytest.raises(InputError, match=r"own_wrong gave \(1, 2\)"):

        def own_wrong(ids: Tensor, scores: Tensor) -> Tensor:
            return scores[:, :2]

        LogitsProcessorList([own_wrong]).process(rows, scores)
    with pytest.raises(InputError, match="gave NoneType"):
        logits.call_by_length(lambda ids, scores: None, rows, scores)  # type: ignore[arg-type, return-value]
    with pytest.raises(NotImplementedError, match="neither"):
        LogitsProcessor().process(rows, scores)


def test_ones_own_stands_in_for_the_built_in_one_of_its_class(caplog: pytest.LogCaptureFixture) -> None:
    config = GenerationConfig(do_sample=True, temperature=0.5, repetition_penalty=1.2, bad_words_ids=[[1]]).settle()
    penalty, warper = penalties.RepetitionPenaltyLogitsProcessor(3.0), truncation.TemperatureLogitsWarper(2.0)
    listed = processors_for(config, custom=[own_function, warper, penalty])
    names = [getattr(one, "__name__", type(one).__name__) for one in listed]
    wanted = ["RepetitionPenaltyLogitsProcessor", "NoBadWordsLogitsProcessor", "own_function"]
    assert names == [*wanted, "TemperatureLogitsWarper", "TopKLogitsWarper"]
    assert listed[0] is penalty and listed[3] is warper
    assert "RepetitionPenaltyLogitsProcessor" in caplog.text and "TemperatureLogitsWarper" in caplog.text


WRONG: dict[str, Callable[[], Any]] = {
    "top_k": lambda: truncation.TopKLogitsWarper(0),
    "top_p": lambda: truncation.TopPLogitsWarper(1.5),
    "temperature": lambda: truncation.TemperatureLogitsWarper(0.0),
    "typical_p": lambda: truncation.TypicalLogitsWarper(1.0),
    "min_tokens_to_keep": lambda: truncation.TopKLogitsWarper(3, min_tokens_to_keep=0),
    "penalty": lambda: penalties.RepetitionPenaltyLogitsProcessor(0.0),
    "ngram_size": lambda: penalties.NoRepeatNGramLogitsProcessor(0),
    "vocabulary has 43": lambda: penalties.SequenceBiasLogitsProcessor({(50,): 1.0}).process(*ragged()),
    "seeding_scheme": lambda: watermarks.WatermarkLogitsProcessor(5, seeding_scheme="righthash"),
    "encoder's input": lambda: processors_for(GenerationConfig(encoder_no_repeat_ngram_size=2).settle()),
    "without the prompt": lambda: processors_for(GenerationConfig(guidance_scale=2.0).settle()),
    "no token is the end": lambda: processors_for(GenerationConfig(exponential_decay_length_penalty=(1, 1.1)).settle()),
    "greenlist": lambda: GenerationConfig(watermarking_config={"nothing": 5}),
}


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_arguments_are_refused(reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        WRONG[reason]()


# Ragged ids -----------------------------------------------------------------------------------------------------


def test_rows_grow_are_chosen_and_joined() -> None:
    random = np.random.default_rng(0)
    lists = [random.integers(0, 50, length).tolist() for length in (3, 1, 5)]
    rows = RaggedIds.of_prompts([torch.tensor(each) for each in lists], numbers=[7, 8, 9])
    for _ in range(40):
        rows.is_token, rows.positions, rows.is_new  # noqa: B018 - what is remembered has to be forgotten
        tokens = random.integers(0, 50, 3).tolist()
        rows.append(torch.tensor(tokens))
        lists = [[*each, token] for each, token in zip(lists, tokens, strict=True)]
    assert [rows.row(row).tolist() for row in range(3)] == lists and rows.generated == [40, 40, 40]
    chosen = rows.select([2, 0, 2])
    assert [chosen.row(row).tolist() for row in range(3)] == [lists[2], lists[0], lists[2]]
    assert (chosen.numbers, chosen.prompts) == ([9, 7, 9], [5, 3, 5])
    joined = chosen.join(RaggedIds.of_prompts([torch.tensor([1, 2])], numbers=[3]))
    assert joined.row(3).tolist() == [1, 2] and joined.numbers == [9, 7, 9, 3] and joined.width == 45
    counts = joined.counts(50)
    assert counts[0].tolist() == [lists[2].count(token) for token in range(50)] and counts[3].sum() == 2


def test_a_row_without_tokens_changes_nothing() -> None:
    """What continues embeddings has no ids yet."""
    rows, scores = RaggedIds(torch.zeros(1, 0, dtype=torch.long), [0], prompts=[0]), torch.randn(1, VOCABULARY)
    names = ("repetition", "repetition less", "bigrams", "trigrams", "forced begin", "forced end", "decay", "watermark")
    for name in names:
        torch.testing.assert_close(make(name).process(rows, scores), scores)
