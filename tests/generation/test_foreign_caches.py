"""Code written for Transformers generates with the caches that it makes itself."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import foreign_decoders
import foreign_seq2seq
import pytest
import torch
from foreign_decoders import CASES, KINDS, PROMPTS
from torch import Tensor, nn

from maquette import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PretrainedConfig, PreTrainedModel
from maquette.errors import InputError
from maquette.generation.foreign_caches import DynamicCache, StaticCache
from maquette.modeling.outputs import CausalLMOutput

MORE = [*PROMPTS, [7, 6, 5, 4]]


def cut(row: list[int]) -> list[int]:
    return row[: row.index(2) + 1] if 2 in row else row


def continue_all(model: Any, prompts: list[list[int]] = PROMPTS, **settings: Any) -> list[list[int]]:
    width = max(map(len, prompts))
    return [cut(row) for row in model.generate(prompts, do_sample=False, **settings)[:, width:].tolist()]


class Lengths:
    """Counts the tokens of each call of a model."""

    def __init__(self, model: nn.Module) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.masks: list[int] = []
        model.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.seen.append(tuple(named["input_ids"].shape))
        if named.get("attention_mask") is not None:
            self.masks.append(named["attention_mask"].shape[1])


# Folders that bring their code ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("tide")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAQUETTE_HOME", str(place / "home"))
        folder = foreign_decoders.write(request.param, place / "model")
        return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()


@pytest.mark.parametrize("case", range(len(CASES)))
def test_texts_are_those_of_the_peer(model: Any, case: int, peer_side: Path) -> None:
    """All rows of different lengths in one call, where the peer had each alone."""
    expected = json.loads((peer_side / "foreign" / "found.json").read_text())[type(model).__name__][case]
    assert continue_all(model, **CASES[case]) == expected
    assert len({len(row) for row in expected}) > 1 or case, "rows should end at different places"


def test_only_new_tokens_are_read(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    """However rows come, leave, wait, and change places; with drafts they are taken back."""
    fresh = copy.deepcopy(model)
    lengths = Lengths(fresh)
    expected = continue_all(model, MORE, max_new_tokens=12, use_cache=False)
    for settings in ({}, {"max_rows": 2}, {"return_dict_in_generate": True}):
        out = fresh.generate(MORE, max_new_tokens=12, do_sample=False, **settings)
        out = out if isinstance(out, Tensor) else out.sequences
        assert [cut(row) for row in out[:, 7:].tolist()] == expected
    drafted = continue_all(fresh, MORE, max_new_tokens=12, prompt_lookup_num_tokens=3)
    assert drafted == expected
    lengths.seen.clear()
    assert continue_all(fresh, MORE, max_new_tokens=12) == expected
    groups = len({len(row) for row in MORE})
    assert all(length == 1 for _, length in lengths.seen[groups:]), "a step reads one token of each row"
    assert len(lengths.seen) <= 2 * groups + 11, "and all rows in one call, once it is known how tokens lie"
    lengths.masks.clear()
    assert continue_all(fresh, MORE * 3, max_new_tokens=12, max_rows=3) == expected * 3
    assert max(lengths.masks) < 7 + 12, "rows that have left leave no padding behind"
    lengths.seen.clear()
    beams = continue_all(fresh, num_beams=3, num_return_sequences=2, max_new_tokens=7)
    assert all(length == 1 for _, length in lengths.seen[groups:]), "beams take their caches along"
    assert beams == continue_all(model, num_beams=3, num_return_sequences=2, max_new_tokens=7, use_cache=False)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_padded_batch(model: Any) -> None:
    """On either side, and with the mask of a tokenizer."""
    expected = continue_all(model, max_new_tokens=6)
    for side in ("left", "right"):
        rows = [torch.tensor(row) for row in PROMPTS]
        ids, mask = (
            nn.utils.rnn.pad_sequence(each, batch_first=True, padding_side=side)
            for each in (rows, [torch.ones_like(row) for row in rows])
        )
        found = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
        assert [cut(row) for row in found[:, ids.shape[1] :].tolist()] == expected


# Layouts and habits of caches ---------------------------------------------------------------------------------------


class ReedConfig(PretrainedConfig):
    model_type = "reed"
    vocab_size: int = 24
    dim: int = 16
    heads: int = 2


class Reed(PreTrainedModel):
    """One layer of attention, `keep` and `recall` say how its keys and values lie in a tuple."""

    config_class = ReedConfig

    def __init__(self, config: ReedConfig) -> None:
        super().__init__(config)
        self.embed, self.places = nn.Embedding(config.vocab_size, config.dim), nn.Embedding(64, config.dim)
        self.qkv, self.head = nn.Linear(config.dim, 3 * config.dim), nn.Linear(config.dim, config.vocab_size)

    def attend(self, ids: Tensor, seen: int, past: Any) -> tuple[Tensor, Any]:
        x = self.embed(ids) + self.places(torch.arange(seen, seen + ids.shape[1]))
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.config.heads, -1).permute(2, 0, 3, 1, 4)
        k, v, past = self.extend(k, v, past)
        mask = torch.ones(ids.shape[1], k.shape[2], dtype=torch.bool).tril(k.shape[2] - ids.shape[1])
        x = x + nn.functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
        return self.head(x), past

    def extend(self, k: Tensor, v: Tensor, past: Any) -> tuple[Tensor, Tensor, Any]:
        if past is not None:
            old = self.recall(past[0], len(k))
            k, v = torch.cat([old[0], k], dim=2), torch.cat([old[1], v], dim=2)
        return k, v, (self.keep(k, v),)

    def keep(self, k: Tensor, v: Tensor) -> Any:
        return k, v

    def recall(self, pair: Any, rows: int) -> Any:
        return pair

    def count(self, past: Any) -> int:
        return self.recall(past[0], 1)[0].shape[2]

    def forward(self, input_ids, past_key_values=None, use_cache=None):
        seen = 0 if past_key_values is None else self.count(past_key_values)
        logits, past = self.attend(input_ids, seen, past_key_values)
        return CausalLMOutput({"logits": logits, "past_key_values": past if use_cache else None})


class LengthFirst(Reed):
    """Tokens first, then rows; its own code says so."""

    def keep(self, k, v):
        return k.permute(2, 0, 1, 3), v.permute(2, 0, 1, 3)

    def recall(self, pair, rows):
        return [each.permute(1, 2, 0, 3) for each in pair]

    @staticmethod
    def _reorder_cache(past, beam_idx):
        return tuple(tuple(each.index_select(1, beam_idx) for each in layer) for layer in past)


class HeadsWithRows(Reed):
    """Rows and heads are one axis, and keys end with their tokens; its own code needs as many rows as there were."""

    def keep(self, k, v):
        return k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1)

    def recall(self, pair, rows):
        k, v = pair[0].transpose(1, 2), pair[1]
        return k.unflatten(0, (rows, -1)), v.unflatten(0, (rows, -1))

    def _reorder_cache(self, past, beam_idx):
        rows = len(beam_idx)
        return tuple(
            tuple(each.unflatten(0, (rows, -1)).index_select(0, beam_idx).flatten(0, 1) for each in layer)
            for layer in past
        )


class Merged(Reed):
    """Keys and values in one tensor, and a second thing that no token has."""

    def keep(self, k, v):
        return torch.cat([k, v], dim=-1), None

    def recall(self, pair, rows):
        return pair[0].chunk(2, dim=-1)


class Given(Reed):
    """Fills the object that it gets, and gives nothing back."""

    def extend(self, k, v, past):
        return (k, v, None) if past is None else (*past.update(k, v, 0), None)

    def count(self, past):
        return past.get_seq_length()


class Own:
    """A cache that has nothing but what its model needs."""

    def __init__(self, pair: Any) -> None:
        self.pair = pair


class Opaque(Reed):
    """Keeps an object that can do nothing."""

    def keep(self, k, v):
        return Own((k, v))

    def recall(self, pair, rows):
        return pair.pair

    def extend(self, k, v, past):
        k, v, new = super().extend(k, v, None if past is None else (past,))
        return k, v, new[0]

    def count(self, past):
        return past.pair[0].shape[2]


class OldName(Reed):
    """`past`, as before 2022."""

    def forward(self, input_ids, past=None, use_cache=None):
        out = super().forward(input_ids, past, use_cache)
        return CausalLMOutput({"logits": out["logits"], "past_key_values": out["past_key_values"]})

    def prepare_inputs_for_generation(self, input_ids, past=None, **kwargs):
        return {"input_ids": input_ids if past is None else input_ids[:, -1:], "past": past, "use_cache": True}


class Running(PreTrainedModel):
    """A recurrence, whose state has no length."""

    config_class = ReedConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed, self.head = nn.Embedding(config.vocab_size, config.dim), nn.Linear(config.dim, config.vocab_size)

    def forward(self, input_ids, state=None, use_cache=None):
        value, outs = torch.zeros(len(input_ids), self.config.dim) if state is None else state[0], []
        for each in self.embed(input_ids).unbind(1):
            value = torch.tanh(value.roll(1, -1) + each)
            outs.append(value)
        return CausalLMOutput({"logits": self.head(torch.stack(outs, 1)), "state": [value] if use_cache else None})


class Crooked(Reed):
    """Forgets where it was: what it gives with its cache is wrong."""

    def forward(self, input_ids, past_key_values=None, use_cache=None):
        logits, past = self.attend(input_ids, 0, past_key_values)
        return CausalLMOutput({"logits": logits, "past_key_values": past if use_cache else None})


class Unmasked(Reed):
    """Takes a mask and positions, and only heeds the positions."""

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None):
        seen = 0 if past_key_values is None else self.count(past_key_values)
        logits, past = self.attend(input_ids, seen, past_key_values)
        return CausalLMOutput({"logits": logits, "past_key_values": past if use_cache else None})


def build(kind: type[PreTrainedModel]) -> Any:
    torch.manual_seed(4)
    model = kind(ReedConfig(eos_token_id=2, pad_token_id=0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


# Where nobody knows which numbers belong to which row, rows are read again now and then.
@pytest.mark.parametrize("kind", [Reed, LengthFirst, Merged, Given, OldName, Running, HeadsWithRows, Opaque, Unmasked])
def test_caches_of_any_layout(kind: type[PreTrainedModel], caplog: pytest.LogCaptureFixture) -> None:
    model = build(kind)
    lengths = Lengths(model)
    expected = [continue_all(model, [row], max_new_tokens=10, use_cache=False)[0] for row in MORE]
    assert continue_all(model, MORE, max_new_tokens=10) == expected
    lengths.seen.clear()
    assert continue_all(model, MORE, max_new_tokens=10) == expected
    again = [length for _, length in lengths.seen[len({len(row) for row in MORE}) :] if length > 1]
    assert not again or kind in (HeadsWithRows, Opaque)
    assert len(again) <= len(MORE)
    assert continue_all(model, MORE, max_new_tokens=10, prompt_lookup_num_tokens=3) == expected
    assert continue_all(model, MORE, max_new_tokens=10, max_rows=2) == expected
    beams = continue_all(model, MORE, num_beams=3, max_new_tokens=6)
    assert beams == continue_all(model, MORE, num_beams=3, max_new_tokens=6, use_cache=False)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_cache_that_is_wrong_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    model = build(Crooked)
    expected = [continue_all(model, [row], max_new_tokens=6, use_cache=False)[0] for row in MORE]
    caplog.clear()
    assert continue_all(model, MORE, max_new_tokens=6) == expected
    assert [record.message for record in caplog.records if "computed again for every token" in record.message]


def test_a_cache_of_ours_is_refused_by_what_cannot_use_it() -> None:
    pair = (torch.zeros(1, 2, 2, 8), torch.zeros(1, 2, 2, 8))
    with pytest.raises(InputError, match="leave them out"):
        build(Given).generate([[3, 4, 5]], past_key_values=(pair,), max_new_tokens=2)


# The caches that such code imports ------------------------------------------------------------------------------------


def test_a_static_cache_gives_what_a_growing_one_does() -> None:
    torch.manual_seed(0)
    dynamic, static = DynamicCache(), StaticCache(max_cache_len=9)
    for count, place in ((4, 0), (1, 4), (2, 5)):
        keys, values = torch.randn(2, 3, count, 5), torch.randn(2, 3, count, 5)
        for layer in range(2):
            expected = dynamic.update(keys, values, layer)
            given = {"cache_position": torch.arange(place, place + count)}
            found = static.update(keys, values, layer, given if layer else None)
            for one, other in zip(expected, found, strict=True):
                assert torch.equal(one, other[:, :, : place + count]) and not other[:, :, place + count :].any()
    for cache in (dynamic, static):
        assert cache.get_seq_length() == cache.get_seq_length(1) == 7
        cache.crop(-2)
        assert cache.get_seq_length() == 5
        cache.reorder_cache(torch.tensor([1, 1, 0]))
        assert len(cache[0][0]) == 3 and torch.equal(cache.layers[1].keys[0], cache.layers[1].keys[1])
    assert dynamic.get_mask_sizes(torch.arange(2), 0) == (7, 0) and static.get_mask_sizes(2) == (9, 0)
    with pytest.raises(ValueError, match="max_cache_len"):
        StaticCache()


# With an encoder ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=foreign_seq2seq.KINDS)
def ferry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("ferry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAQUETTE_HOME", str(place / "home"))
        folder = foreign_seq2seq.write(request.param, place / "saved")
        yield AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True).eval()


@pytest.mark.parametrize("given", [{}, {"num_beams": 3}, {"max_rows": 2}, {"do_sample": True, "seed": 3}], ids=str)
def test_foreign_decoders_that_look_at_an_encoder(
    ferry: Any, given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What whole texts give without a cache; the encoder reads each prompt once, and the decoder a token at a time."""
    texts, begins = foreign_seq2seq.TEXTS, [[1], [1, 5, 6], [1, 7], [1]]
    for more in ({}, {"decoder_input_ids": begins}):
        settings = {"max_new_tokens": 7, **given, **more}
        expected = ferry.generate(texts, use_cache=False, **settings)
        assert any(2 not in row[2:] for row in expected.tolist())
        ferry.generate(texts, **settings)  # in which the style is found
        ferry.encoder.reads, ferry.widths[:] = 0, []
        assert torch.equal(ferry.generate(texts, **settings), expected)
        assert ferry.encoder.reads == len(texts) and max(ferry.widths) <= 3 and ferry.widths.count(1) > 4
        assert "computed again for every token" not in caplog.text
        states = ferry.encoder(*_padded(texts))
        handed = ferry.generate(encoder_outputs=states, attention_mask=_padded(texts)[1], **settings)
        assert torch.equal(handed, expected)


def _padded(texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(text) for text in texts], batch_first=True)
    return ids, (ids != 0).long()


def test_foreign_decoders_give_states_of_drafts_and_are_not_compiled(ferry: Any, caplog: Any) -> None:
    texts = foreign_seq2seq.TEXTS
    expected = ferry.generate(texts, max_new_tokens=6)
    assert torch.equal(ferry.generate(texts, max_new_tokens=6, prompt_lookup_num_tokens=2), expected)
    assert torch.equal(ferry.generate(texts, max_new_tokens=6, compile_config={}), expected)
    assert "compile_config has no effect: Ferry" in caplog.text


def test_prompts_with_more_than_ids_are_read_at_once(caplog: Any) -> None:
    """Which piece an image belongs to, only the model knows."""
    model = foreign_decoders_plain()
    model.generate([[1, 2, 3, 4]], max_new_tokens=1, prefill_chunk_size=2, shift=torch.ones(1, 1))
    assert "prefill_chunk_size=2 has no effect here: prompts come with shift" in caplog.text


def foreign_decoders_plain() -> Any:
    class Plain(PreTrainedModel):
        config_class = PretrainedConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.embed = nn.Embedding(8, 8)

        def forward(self, input_ids: Tensor, shift: Tensor | None = None) -> CausalLMOutput:
            return CausalLMOutput(logits=self.embed(input_ids))

    return Plain(PretrainedConfig(extra={"vocab_size": 8}))
