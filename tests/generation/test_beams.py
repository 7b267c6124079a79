"""Beam search: exhaustive search on tiny vocabularies, the peer's ids, one prompt apart from another, exact draws."""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generate_cases import CASES, GREEDY, PROMPTS, make_llama
from test_sampling import check_counts
from tiny_decoders import TinyConfig, TinyForCausalLM
from torch import Tensor

from maquette import BaseStreamer, ConfigurationError, GenerationConfig, InputError
from maquette.generation.beams import Beams, beams_for
from maquette.generation.cache import Cache
from maquette.generation.constraints import SuppressTokensLogitsProcessor
from maquette.generation.engine import Prompt
from maquette.generation.logits import LogitsProcessorList
from maquette.generation.processors import processors_for
from maquette.generation.reading import CachedReader, RecomputingReader
from maquette.generation.stopping import Ends

END = 2
KINDS: dict[str, dict[str, Any]] = {"full": {}, "windows": {"window": 3}, "recurrent": {"recurrent": True}}


def make(kind: str, **fields: Any) -> TinyForCausalLM:
    torch.manual_seed(1)
    model = TinyForCausalLM(TinyConfig(**{"vocab_size": 12, **KINDS[kind], **fields})).double().eval()
    with torch.no_grad():
        model.head.weight.mul_(0.01)  # so that several texts have a chance
    return model


def prepare(
    model: Any, prompts: Sequence[list[int]], *, rows: int = 999, cached: bool = True, ends: Sequence[int] = (END,),
    **settings: Any,
) -> Beams:  # fmt: skip
    config = GenerationConfig(**settings).settle()
    names = ("input_ids", "attention_mask", "past_key_values")
    reader = CachedReader(model, names, cache=Cache()) if cached else RecomputingReader(model, names)
    tensors = [torch.tensor(prompt) for prompt in prompts]
    return beams_for(
        config,
        reader=reader,  # type: ignore[arg-type]
        prompts=[Prompt(n, n, ids, ids) for n, ids in enumerate(tensors)],
        seed=config.seed if config.do_sample else None,
        processors=processors_for(config, ends=ends),
        stops=Ends(ends, [config.max_new_tokens or 0] * len(prompts)),
        max_rows=rows,
    )


@torch.no_grad()
def search(model: Any, prompts: Sequence[list[int]], **settings: Any) -> list[list[int]]:
    """Give the texts of each prompt, one after the other."""
    events = [event for step in prepare(model, prompts, **settings).run() for event in step.events]
    return [event.tokens for event in sorted(events, key=lambda event: event.number)]


@torch.no_grad()
def log_probabilities(model: Any, prompt: list[int], texts: Sequence[list[int]]) -> list[float]:
    """Give the log-probability of each text, by one forward over all of them."""
    longest = max(map(len, texts))
    rows = torch.tensor([[*prompt, *text, *[0] * (longest - len(text))] for text in texts])
    logs = model(rows).logits[:, len(prompt) - 1 : -1].log_softmax(-1)
    each = logs.gather(2, rows[:, len(prompt) :, None])[..., 0]
    return [float(row[: len(text)].sum()) for row, text in zip(each, texts, strict=True)]


def all_texts(vocabulary: int, longest: int) -> Iterator[list[int]]:
    """Give every text that ends with the end token, or is of the greatest length."""
    others = [token for token in range(vocabulary) if token != END]
    for length in range(1, longest + 1):
        for start in itertools.product(others, repeat=length - 1):
            yield from ([*start, last] for last in (range(vocabulary) if length == longest else [END]))


@pytest.mark.parametrize(
    ("kind", "penalty"),
    [("full", 0.0), ("full", 1.0), ("full", 2.0), ("full", -1.0), ("windows", 1.0), ("recurrent", 1.0)],
)
def test_enough_beams_find_what_exhaustive_search_finds(kind: str, penalty: float) -> None:
    """27 beams can go on after three of four tokens; 64 are enough for every complete text among the best ten."""
    model, prompts, texts = make(kind, vocab_size=4), [[1, 3], [0, 1, 3, 3, 1]], [*all_texts(4, 4)]
    best: list[list[int]] = []
    for prompt in prompts:
        logs = log_probabilities(model, prompt, texts)
        ranked = sorted(range(len(texts)), key=lambda n: -logs[n] / len(texts[n]) ** penalty)
        best += [texts[n] for n in ranked[:10]]
    settings = {"num_beams": 64, "num_return_sequences": 10, "length_penalty": penalty, "early_stopping": "never"}
    assert search(model, prompts, max_new_tokens=4, **settings) == best


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_peers_ids(peer_side: Path, case: int) -> None:
    """In one call for all prompts, where the peer took each by itself."""
    found = json.loads((peer_side / "beams" / "found.json").read_text())[case]
    beams = prepare(make_llama(), PROMPTS, **CASES[case])
    with torch.no_grad():
        events = [event for step in beams.run() for event in step.events]
    tokens = [event.tokens for event in sorted(events, key=lambda event: event.number)]
    assert tokens == [row for rows in found["tokens"] for row in rows]
    torch.testing.assert_close(beams.sequences_scores, torch.tensor(found["scores"]).flatten(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", range(len(GREEDY)))
def test_the_peers_ids_without_beams(peer_side: Path, case: int) -> None:
    """Every kind of setting, through `generate`; rows of different lengths in one call, two of them at a time."""
    found = json.loads((peer_side / "beams" / "found.json").read_text())[len(CASES) + case]
    ends = GREEDY[case].get("eos_token_id", [END])
    rows = make_llama().generate(PROMPTS, max_rows=2, **GREEDY[case])[:, max(map(len, PROMPTS)) :].tolist()
    tokens = [row[: next((n + 1 for n, token in enumerate(row) if token in ends), None)] for row in rows]
    if not GREEDY[case]["max_new_tokens"]:
        tokens = [row[: 10 - len(prompt)] for row, prompt in zip(tokens, PROMPTS, strict=True)]
    assert tokens == [row for rows in found["tokens"] for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_do_not_see_each_other(kind: str) -> None:
    model = make(kind, vocab_size=6)
    prompts = [[5, 1, 3], [4], [3, 1, 1, 1, 3, 4, 5, 0, 5], [1, 3], [3, 3, 3]]
    settings = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 12, "length_penalty": 0.0}
    alone = [text for prompt in prompts for text in search(model, [prompt], **settings)]
    assert len({len(text) for text in alone}) > 1, "texts should end at different places"
    for rows in (999, 6, 2):
        assert search(model, prompts, rows=rows, **settings) == alone
    assert search(model, prompts, cached=False, rows=6, **settings) == alone
    drawn = {**settings, "do_sample": True, "seed": 3}
    assert search(model, prompts, rows=999, **drawn) == search(model, prompts, rows=3, **drawn)


def test_scores_and_beams_tell_where_texts_come_from() -> None:
    model, prompts = make("full"), [[5, 6, 7], [8], [9, 10, 11, 1]]
    settings = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6, "length_penalty": 0.7}
    beams = prepare(model, prompts, return_dict_in_generate=True, output_scores=True, output_logits=True, **settings)
    with torch.no_grad():
        events = sorted((event for step in beams.run() for event in step.events), key=lambda event: event.number)
    scores, logits, indices = beams.steps("scores"), beams.steps("logits"), beams.beam_indices
    assert scores and logits and len(scores) == len(logits) and scores[0].shape == (9, 12)
    torch.testing.assert_close(scores[1][:3], logits[1][:3].log_softmax(-1))
    for row, (event, score) in enumerate(zip(events, beams.sequences_scores.tolist(), strict=True)):
        count = len(event.tokens)
        exact = log_probabilities(model, prompts[row // 3], [event.tokens])[0] / count**0.7
        assert math.isclose(score, exact, rel_tol=1e-6)  # given in float32
        steps = [scores[n][indices[row, n], token] for n, token in enumerate(event.tokens)]
        assert math.isclose(float(sum(steps)) / count**0.7, exact, rel_tol=1e-9)
        assert indices[row, count:].eq(-1).all()


def test_generate_searches(caplog: pytest.LogCaptureFixture) -> None:
    model, prompts = make("full"), [[5, 6, 7], [8], [9, 10, 11, 1]]
    settings = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6, "length_penalty": 0.0}
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = END, 0
    texts = search(model, prompts, **settings)
    found = model.generate(prompts, **settings)
    assert found.tolist() == [
        [0] * (4 - len(prompts[row // 2])) + prompts[row // 2] + text + [0] * (found.shape[1] - 4 - len(text))
        for row, text in enumerate(texts)
    ]
    batch = {"input_ids": found[::2, :4], "attention_mask": (found[::2, :4] > 0).long()}
    assert torch.equal(model.generate(**batch, max_rows=3, progress_bar=True, **settings), found)
    output = model.generate(prompts, return_dict_in_generate=True, output_scores=True, **settings)
    assert torch.equal(output.sequences, found) and len(output.scores) == found.shape[1] - 4 and output.logits is None
    assert output.beam_indices.shape == (6, found.shape[1] - 4) and output.sequences_scores.shape == (6,)
    assert not caplog.messages
    with pytest.raises(InputError, match="num_beams=1"):
        model.generate([[5]], num_beams=2, max_new_tokens=2, streamer=BaseStreamer())
    with pytest.raises(ConfigurationError, match="one beam only"):
        model.generate([[5]], num_beams=2, max_new_tokens=2, prompt_lookup_num_tokens=2)


class Fixed:
    """A model that always gives the same logits."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    can_rewind = True

    def read(self, first: int, rows: Any, *, numbers: Sequence[int], last: int = 1) -> dict[str, Tensor]:
        return {"logits": self.logits.expand(len(rows), 1, -1)}

    def reserve(self, slots: int) -> None: ...
    def move(self, source: int, target: int) -> None: ...
    def clear(self, slot: int) -> None: ...
    def reorder(self, sources: Sequence[int], last: Any = None) -> None: ...
    def drop(self, first: int, counts: Sequence[int]) -> None: ...


def fixed(
    logits: list[float], *, prompts: int = 1, new: int = 1, processors: Sequence[Any] = (), **options: Any
) -> Beams:
    ids = [torch.tensor([0])] * prompts
    return Beams(
        Fixed(torch.tensor(logits)),
        [Prompt(n, n, each, each) for n, each in enumerate(ids)],
        LogitsProcessorList(processors),
        Ends([END], [new] * prompts),
        **{"count": 2, "max_rows": 2 * prompts, **options},
    )


def test_sampled_beams_are_drawn_without_replacement() -> None:
    """Two beams of one token: the likelier of two different tokens, drawn one after the other."""
    logits = [0.3, 1.2, -0.5, 0.9]
    p = np.exp(logits) / np.exp(logits).sum()
    exact = np.zeros(4)
    for one, other in itertools.permutations(range(4), 2):
        exact[max((one, other), key=lambda token: p[token])] += p[one] * p[other] / (1 - p[one])
    steps = [*fixed(logits, prompts=2000, seed=5).run()]
    best = [event.tokens[0] for step in steps for event in step.events]
    check_counts(np.bincount(best, minlength=4), exact)


def test_early_stopping_decides_when_it_ends() -> None:
    """The end has log-probability -1.01, another token -0.46: with a penalty of 2, long texts are the best."""
    logits = [math.log(0.63), math.log(0.0056), math.log(0.3644)]
    lengths = {}
    for early in (True, False, "never"):
        steps = [*fixed(logits, new=6, length_penalty=2.0, early_stopping=early).run()]
        lengths[early] = (len(steps), len(steps[-1].events[0].tokens))
    assert lengths == {True: (2, 2), False: lengths[False], "never": (6, 6)}


def test_fewer_texts_than_wanted_are_said(caplog: pytest.LogCaptureFixture) -> None:
    beams = fixed([0.0, -math.inf, -math.inf], new=2, count=3, sequences=3, max_rows=3)
    events = [event for step in beams.run() for event in step.events]
    assert [event.tokens for event in events] == [[0, 0], [], []]
    assert "in 1 ways only, and 3 are wanted" in caplog.text
    assert beams.sequences_scores.tolist() == [0.0, -math.inf, -math.inf]
    with pytest.raises(ConfigurationError, match="no token"):
        [*fixed([0.0] * 3, processors=[SuppressTokensLogitsProcessor([0, 1, 2])]).run()]
