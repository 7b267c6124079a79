"""`generate` against a loop that computes every row by itself, whole, for every token."""

import copy
from typing import Any

import pytest
import torch
from tiny_decoders import TinyConfig, TinyForCausalLM
from tiny_models import tiny
from torch import Tensor

from maquette import Cache, GenerationConfig
from maquette.errors import ConfigurationError, InputError

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


def test_as_many_rows_go_on_as_memory_allows() -> None:
    """A row takes keys and values of 3 layers, 2 heads of 8 doubles, for 9 + 20 tokens in blocks of 64, and a block."""
    model, row = make("full"), 3 * 2 * 2 * 8 * 8 * 128
    expected = model.generate(PROMPTS, max_new_tokens=20).tolist()
    for budget, most in ((3 * row, 3), (f"{4 * row - 1}B", 3), (row // 2, 1), ("1GB", 4), ("1TiB", 4)):
        counts: list[int] = []
        handle = model.register_forward_pre_hook(
            lambda _, args, given, counts=counts: counts.append(len(given["input_ids"])), with_kwargs=True
        )
        out = model.generate(PROMPTS, max_new_tokens=20, max_cache_memory=budget, max_rows=4)
        handle.remove()
        assert out.tolist() == expected and max(counts) == most
    beams = {"num_beams": 2, "max_new_tokens": 20}
    found = model.generate(PROMPTS, max_cache_memory=4 * row, **beams)
    assert found.tolist() == model.generate(PROMPTS, **beams).tolist()
    with pytest.raises(ConfigurationError, match="max_cache_memory='much' is no size"):
        model.generate(PROMPTS, max_cache_memory="much")
    with pytest.raises(ConfigurationError, match="all rows together"):
        model.generate(PROMPTS, max_cache_memory="1GB", return_dict_in_generate=True)
    with pytest.raises(ConfigurationError, match="Say max_rows"):
        model.generate(PROMPTS, max_cache_memory="1GB", use_cache=False)


def test_models_without_a_cache_compute_rows_again(caplog) -> None:
    """A model that takes no `past_key_values`, and one that takes it and does nothing with it, say so once."""

    class Plain(TinyForCausalLM):
        def forward(self, input_ids, attention_mask=None):
            return super().forward(input_ids, attention_mask)

    class Careless(TinyForCausalLM):
        def forward(self, input_ids, attention_mask=None, past_key_values=None):
            return super().forward(input_ids, attention_mask)

    class Foreign(TinyForCausalLM):
        def forward(self, input_ids, attention_mask=None, past_key_values=None):
            return super().forward(input_ids, past_key_values[0][0].shape)

    model = make("full")
    expected = [continue_by_hand(model, prompt, 6) for prompt in PROMPTS]
    for kind in (Plain, Careless, Foreign):
        other = copy.deepcopy(model)
        other.__class__ = kind
        caplog.clear()
        if kind is Foreign:
            other.forward = lambda input_ids, attention_mask=None, past_key_values=None, own=other: (
                TinyForCausalLM.forward(own, input_ids) if past_key_values is None else past_key_values[0]
            )
        assert new_tokens(other.generate(PROMPTS, max_new_tokens=6), 9) == expected
        assert caplog.text.count("whole texts are computed again") == 1


@pytest.mark.parametrize("kind", ["full", "windows"])
@pytest.mark.parametrize("sampled", [False, True])
def test_drafts_change_nothing(kind, sampled) -> None:
    """Good guesses, bad ones, those from the prompt; the end may come inside a draft, rows may wait for a slot."""
    model = make(kind)
    settings = {"do_sample": sampled, "seed": 3, "max_new_tokens": 30}
    expected = model.generate(PROMPTS, **settings).tolist()
    torch.manual_seed(1)
    worse = TinyForCausalLM(model.config).double().eval()  # all it says is refused
    near = copy.deepcopy(model)
    near.head.weight.data += 0.05 * torch.randn_like(near.head.weight)
    for assistant in (model, worse, near):
        for rows in (None, 2):
            out = model.generate(PROMPTS, assistant_model=assistant, max_rows=rows, **settings, num_assistant_tokens=7)
            assert out.tolist() == expected
            free = {"assistant_confidence_threshold": 0.0, "num_assistant_tokens_schedule": "heuristic"}
            out = model.generate(PROMPTS, assistant_model=assistant, max_rows=rows, **settings, **free)
            assert out.tolist() == expected
    assert model.generate(PROMPTS, prompt_lookup_num_tokens=4, **settings).tolist() == expected


@pytest.mark.parametrize("rows", [None, 1, 2, 3])
def test_rows_that_end_at_once_leave_before_anything_is_drafted(rows) -> None:
    model = make("full")
    firsts = [row[0] for row in new_tokens(model.generate(PROMPTS, max_new_tokens=1, eos_token_id=-1), 9)]
    for end in firsts:
        settings = {"max_new_tokens": 6, "eos_token_id": end}
        expected = model.generate(PROMPTS, **settings).tolist()
        assert model.generate(PROMPTS, **settings, assistant_model=model, max_rows=rows).tolist() == expected


def test_good_drafts_save_forwards() -> None:
    model, counts = make("full"), []
    model.generation_config.eos_token_id = None
    for options in ({}, {"assistant_model": copy.deepcopy(model)}):
        calls = []
        handle = model.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        model.generate([[5, 6]], max_new_tokens=33, num_assistant_tokens=7, **options)
        handle.remove()
        counts.append(len(calls))
    assert counts == [33, 5]


def test_a_state_refuses_drafts() -> None:
    with pytest.raises(ConfigurationError, match="carries a state that cannot be taken back"):
        make("recurrent").generate(PROMPTS, prompt_lookup_num_tokens=3, max_new_tokens=5)
    other = TinyForCausalLM(TinyConfig(vocab_size=41))
    with pytest.raises(ConfigurationError, match="vocabulary of 41 tokens, and the model one of 40"):
        make("full").generate(PROMPTS, assistant_model=other)


def test_sampled_rows_do_not_know_their_neighbours() -> None:
    """A row follows from the seed and its own number; only the number of prompts before it counts."""
    model = make("full")
    settings = {"do_sample": True, "temperature": 20.0, "max_new_tokens": 15, "seed": 7}
    whole = new_tokens(model.generate(PROMPTS, **settings), 9)
    assert new_tokens(model.generate(PROMPTS, max_rows=2, **settings), 9) == whole
    assert new_tokens(model.generate(PROMPTS[:1], **settings), 3) == whole[:1]
    assert new_tokens(model.generate([*PROMPTS[:2], [7] * 30], **settings), 30)[:2] == whole[:2]
    assert new_tokens(model.generate(PROMPTS, **{**settings, "seed": 8}), 9) != whole
    several = model.generate(PROMPTS[:1], num_return_sequences=4, **settings)
    assert several.shape[0] == 4 and len({tuple(row) for row in several.tolist()}) == 4
    torch.manual_seed(5)
    one = model.generate(PROMPTS, do_sample=True, max_new_tokens=5)
    torch.manual_seed(5)
    assert model.generate(PROMPTS, do_sample=True, max_new_tokens=5).tolist() == one.tolist()


@pytest.mark.parametrize("kind", ["full", "windows"])
def test_a_prefix_is_read_once_and_used_again(kind) -> None:
    """A cache that the user made, cropped and reused; also where it holds the whole prompt already."""
    model, prefix = make(kind), [5, 6, 7, 8, 9, 10]
    cache = Cache()
    with torch.no_grad():
        model(torch.tensor([prefix]), past_key_values=cache)
    for prompt in ([*prefix, 11, 12], prefix, [*prefix, 13]):
        expected = continue_by_hand(model, prompt, 8)
        assert new_tokens(model.generate([prompt], past_key_values=cache, max_new_tokens=8), len(prompt)) == [expected]
        cache.crop(len(prefix))
    cache.batch_repeat_interleave(2)
    prompts = [[*prefix, 1], [*prefix, 14, 15, 16]]
    expected = [continue_by_hand(model, prompt, 8) for prompt in prompts]
    out = model.generate(prompts, past_key_values=cache, max_new_tokens=8, return_dict_in_generate=True)
    assert new_tokens(out.sequences, 9) == expected
    longer = [[*prompt, *new, 20] for prompt, new in zip(prompts, expected, strict=True)]  # the next turn of a chat
    expected = [continue_by_hand(model, prompt, 8) for prompt in longer]
    out = model.generate(longer, past_key_values=out.past_key_values, max_new_tokens=8)
    assert new_tokens(out, max(map(len, longer))) == expected
    with pytest.raises(InputError, match="holds 2 rows, and there are 1 prompts"):
        model.generate([[1, 2]], past_key_values=cache)
    with pytest.raises(InputError, match="tokens of row 0, and its prompt has 2"):
        model.generate([[1, 2], [3]], past_key_values=cache)


def test_vectors_continue_as_their_ids_do() -> None:
    model = make("full")
    expected = [continue_by_hand(model, prompt, 9) for prompt in PROMPTS]
    batch = pad(PROMPTS, "left")
    vectors = model.embed(batch["input_ids"]).detach()
    out = model.generate(inputs_embeds=vectors, attention_mask=batch["attention_mask"], max_new_tokens=9)
    assert new_tokens(out, 0) == expected
    assert new_tokens(model.generate(inputs_embeds=vectors[1:2, -1:], max_new_tokens=9), 0) == expected[1:2]


def test_scores_and_logits_are_what_chose() -> None:
    model = make("full")
    out = model.generate(
        PROMPTS, max_new_tokens=6, repetition_penalty=1.3, return_dict_in_generate=True, output_scores=True,
        output_logits=True,
    )  # fmt: skip
    new = out.sequences[:, 9:]
    assert len(out.scores) == len(out.logits) == new.shape[1]
    for row, prompt in enumerate(PROMPTS):
        ids = list(prompt)
        for step, token in enumerate(new_tokens(out.sequences, 9)[row]):
            assert int(out.scores[step][row].argmax()) == token
            with torch.no_grad():
                expected = model(torch.tensor([ids])).logits[0, -1]
            torch.testing.assert_close(out.logits[step][row], expected)
            ids.append(token)


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ([], {}, InputError, "an empty list"),
    ([[1], []], {}, InputError, "Row 1 has no tokens"),
    (torch.tensor([[1, 2], [3, 4]]), {"attention_mask": torch.tensor([[1, 1], [0, 0]])}, InputError, "padding only"),
    (torch.tensor([[1, 40]]), {}, InputError, r"the id 40 \(at \(0, 1\)\), and the vocabulary has the ids 0 to 39"),
    (torch.tensor([[1.0, 2.0]]), {}, InputError, "Ids are whole numbers"),
    ("hello", {}, InputError, "The prompts are texts: give ids"),
    (["hello"], {}, InputError, "The prompts are texts: give ids"),
    ({"input_ids": torch.tensor([[1]])}, {}, InputError, r"give what is in it, by name, generate\(\*\*batch\)"),
    ([[1, 2]], {"generation_config": {"top_k": 3}}, InputError, "generation_config is a dict"),
    ([[1, 2]], {"labels": torch.tensor([[1, 2]])}, InputError, "labels are for training"),
    (torch.tensor([[1, 2]]), {"attention_mask": torch.ones(1, 3)}, InputError, r"attention_mask is \(1, 3\)"),
    ([[1, 2]], {"max_length": 2}, InputError, "counts the prompt, and that of row 0 has 2 tokens"),
    ([[1, 2]], {"max_new_token": 3}, InputError, "did you mean 'max_new_tokens'|max_new_tokens"),
    ([[1, 2]], {"num_beams": 0}, ConfigurationError, "num_beams"),
    ([[1, 2]], {"input_ids": torch.tensor([[1]])}, InputError, "twice"),
    ([[1, 2], [3]], {"streamer": object()}, InputError, "A streamer takes one prompt"),
]


@pytest.mark.parametrize(("inputs", "options", "error", "message"), BAD, ids=[case[3][:30] for case in BAD])
def test_bad_input_gets_one_clear_error(inputs, options, error, message) -> None:
    with pytest.raises(error, match=message):
        make("full").generate(inputs, **{"max_new_tokens": 3, **options} if "max_length" not in options else options)


def test_a_model_without_scores_says_what_it_gives() -> None:
    with pytest.raises(InputError, match="forward gives last_hidden_state, and generating needs `logits`"):
        tiny("DistilBertModel")[0].generate([[1, 2]], max_new_tokens=2)


@pytest.mark.parametrize("name", ["DistilBertForMaskedLM", "DistilBertForTokenClassification"])
def test_what_scores_the_tokens_that_it_reads_does_not_continue_them(name) -> None:
    with pytest.raises(InputError, match=f"{name} scores the tokens that it reads"):
        tiny(name)[0].generate([[1, 2]], max_new_tokens=2)


def test_padding_is_found_without_a_mask() -> None:
    """Where padding is no end token, it is left out at both ends; the settings of a folder count, and come back."""
    model = make("full")
    ids = pad(PROMPTS, "left")["input_ids"]
    assert new_tokens(model.generate(ids, max_new_tokens=8), 9) == [continue_by_hand(model, p, 8) for p in PROMPTS]


def test_settings_are_saved_beside_the_weights(tmp_path) -> None:
    model = make("full")
    model.generation_config = GenerationConfig(max_new_tokens=3, eos_token_id=[2, 7], do_sample=True, top_k=5)
    model.save_pretrained(tmp_path)
    again = TinyForCausalLM.from_pretrained(tmp_path)
    assert again.generation_config == model.generation_config
    assert again.generate([[5, 6]]).shape[1] <= 5


def test_training_goes_on_as_before() -> None:
    """Generating uses no dropout and keeps no gradients; modules are as they were afterwards, also after an error."""
    model = make("full").train()
    model.blocks[0].eval()
    before = [module.training for module in model.modules()]
    model.generate([[5, 6]], max_new_tokens=2)
    with pytest.raises(InputError):
        model.generate([[99]], max_new_tokens=2)
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()
