"""Encoders with decoders compute what the peer computes, on either's weights, and generate the peer's ids."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from exchanged_files import assert_same_names
from rounding import STEPS_OF_GRADIENTS, assert_near
from safetensors.torch import load_file, save_file
from seq2seq_runs import run

import maquette
from maquette.modeling.packing import use_packing

ROWS, LENGTH, NEW, VOCABULARY = 4, 11, 7, 53
MASKS = ("none", "right", "holes", "left")
T5 = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_heads": 4}
T5 |= {
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 9,
    "decoder_start_token_id": 0,
    "eos_token_id": 2,
}
T5 |= {"initializer_factor": 1.5}
GATED = {"feed_forward_proj": "gated-gelu", "num_layers": 3, "num_decoder_layers": 2}
BART = {"vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 3, "decoder_layers": 2, "init_std": 0.3}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 20}
BART |= {"max_position_embeddings": 32}


class Case:
    """One class with one configuration, and for which masks it is compared."""

    def __init__(self, head, sizes, *, masks=MASKS, states=False, unties=False, **fields):
        self.family = "T5" if sizes is T5 else "Bart"
        self.class_name, self.config_name = f"{self.family}{head}", f"{self.family}Config"
        self.fields, self.masks, self.states, self.unties = {**sizes, **fields}, masks, states, unties
        self.generates = head == "ForConditionalGeneration"

    @property
    def model_class(self):
        return getattr(maquette, self.class_name)

    def config(self):
        return getattr(maquette, self.config_name)(**self.fields)

    def as_dict(self):
        more = {name: getattr(self, name) for name in ("fields", "masks", "states", "unties", "generates")}
        return {"class": self.class_name, "config": self.config_name, **more}


CASES = {
    "t5": Case("Model", T5, states=True),
    "t5 gated": Case("Model", T5, **GATED),
    "t5 encoder": Case("EncoderModel", T5),
    "t5 tied": Case("ForConditionalGeneration", T5),
    "t5 untied": Case("ForConditionalGeneration", T5, tie_word_embeddings=False, unties=True, **GATED),
    "t5 rows": Case("ForSequenceClassification", T5, num_labels=3),
    "t5 tokens": Case("ForTokenClassification", T5, num_labels=5),
    "t5 spans": Case("ForQuestionAnswering", T5, **GATED),
    "bart": Case("Model", BART, states=True),
    "bart scaled": Case("ForConditionalGeneration", BART, scale_embedding=True, activation_function="relu"),
    "bart tied": Case("ForConditionalGeneration", BART),
    "bart untied": Case("ForConditionalGeneration", BART, masks=("right",), tie_word_embeddings=False),
    "bart causal": Case("ForCausalLM", BART, masks=("none", "right")),
    "bart rows": Case("ForSequenceClassification", BART),
    "bart spans": Case("ForQuestionAnswering", BART),
}
SHORT = {"do_sample": False, "max_new_tokens": 9}
GENERATION = {
    "greedy": SHORT,
    "beams": {**SHORT, "num_beams": 4},
    "many": {**SHORT, "num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0, "early_stopping": True},
    "length": {"do_sample": False, "num_beams": 2, "max_length": 8, "min_length": 5, "forced_bos_token_id": 7},
    "forced": {
        "do_sample": False,
        "max_length": 6,
        "forced_eos_token_id": 9,
        "encoder_repetition_penalty": 3.0,
        "alone": True,
    },
    "copies": {**SHORT, "encoder_no_repeat_ngram_size": 1, "no_repeat_ngram_size": 2, "alone": True},
    "begun": {**SHORT, "begins": True, "num_beams": 2},
}


def make_inputs() -> dict[str, torch.Tensor]:
    """Four texts of different lengths, what a decoder reads, and labels of every kind."""
    torch.manual_seed(7)
    right = (torch.arange(LENGTH) < torch.tensor([11, 4, 1, 7])[:, None]).long()
    ids = torch.randint(3, VOCABULARY, (ROWS, LENGTH))
    decoder_mask = (torch.arange(NEW) < torch.tensor([5, 7, 3, 1])[:, None]).long()
    labels = torch.randint(3, VOCABULARY, (ROWS, NEW)).masked_fill(torch.rand(ROWS, NEW) < 0.2, -100)
    return {
        "ids": ids,
        "ids.ended": torch.where(torch.arange(LENGTH) == torch.tensor([[10], [3], [0], [6]]), 2, ids),
        "mask.none": torch.ones_like(right),
        "mask.right": right,
        "mask.left": right.flip(1).contiguous(),
        "mask.holes": (right * (torch.arange(LENGTH) % 3 != 1)).contiguous(),
        "decoder_ids": torch.randint(3, VOCABULARY, (ROWS, NEW)),
        "decoder_mask": decoder_mask,
        "labels.base": torch.randn(ROWS, NEW, 16),
        "labels.source": torch.randn(ROWS, LENGTH, 16),
        "labels.source.ids": torch.randint(3, VOCABULARY, (ROWS, LENGTH)),
        "labels.decoder": labels,
        "labels.tokens": torch.randint(0, 5, (ROWS, LENGTH)),
        "labels.rows": torch.tensor([0, 2, 1, 1]),
        "labels.spans": torch.randint(0, LENGTH, (2, ROWS)),
    }


@pytest.fixture(scope="module")
def exchange(tmp_path_factory):
    """A folder through which both libraries went: our models, theirs, and what the peer computes with each."""
    peer_python = os.environ.get("MAQUETTE_PEER_PYTHON")
    if not peer_python:
        pytest.skip("compares with the peer: set MAQUETTE_PEER_PYTHON to an interpreter that has it (`make test` does)")
    folder = tmp_path_factory.mktemp("seq2seq")
    (folder / "results").mkdir()
    save_file(make_inputs(), folder / "inputs.safetensors")
    about = {name: case.as_dict() for name, case in CASES.items()}
    (folder / "cases.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "generation.json").write_text(json.dumps(GENERATION), encoding="utf-8")
    for name, case in CASES.items():
        torch.manual_seed(0)
        case.model_class(case.config()).save_pretrained(folder / "ours" / name, max_shard_size="10KB")
    script = Path(__file__).parent / "peer_seq2seq.py"
    done = subprocess.run([peer_python, str(script), str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def take_real(case, inputs, mask, *tensors):
    """Leave out what stands at padding."""
    masks = {LENGTH: mask.bool(), NEW: inputs["decoder_mask"].bool() if case.class_name.endswith("Model") else None}
    shape = tensors[0].shape
    kept = masks.get(shape[1]) if len(shape) > 1 and shape[0] == ROWS else None
    return tensors if kept is None else [tensor[kept] for tensor in tensors]


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_peer(exchange, name, whose):
    case, inputs = CASES[name], make_inputs()
    expected = load_file(exchange / "results" / f"{whose}-{name}.safetensors")
    model = case.model_class.from_pretrained(exchange / whose / name)
    for mask_name in case.masks if whose == "theirs" else case.masks[-1:]:
        mask = inputs[f"mask.{mask_name}"]
        for packed in (True, False):
            with use_packing(packed):
                found = run(model, inputs, case.class_name, mask_name)
            gradients = [value for key, value in expected.items() if key.startswith(f"{mask_name}.grad.")]
            for key, value in found.items():
                where, options = f"{name}, {mask_name}, packed={packed}: {key}", {}
                if key.startswith("grad."):
                    options = {"among": gradients, "steps": STEPS_OF_GRADIENTS, "least": 0.0}
                pair = take_real(case, inputs, mask, value, expected[f"{mask_name}.{key}"])
                assert_near(*pair, where, **options)
            assert {f"{mask_name}.{n}" for n in found} == {n for n in expected if n.startswith(f"{mask_name}.")}


@pytest.mark.parametrize("name", CASES)
def test_files_have_the_peers_names(exchange, name):
    assert_same_names(exchange, name)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.generates])
def test_generates_the_peers_ids(exchange, name):
    """Greedily and with beams, from ragged texts; with what only models with an encoder know."""
    inputs, mask = make_inputs(), make_inputs()["mask.right"]
    expected = load_file(exchange / "results" / f"theirs-{name}.safetensors")
    model = CASES[name].model_class.from_pretrained(exchange / "theirs" / name)
    padding = model.config.pad_token_id
    for setting, given in GENERATION.items():
        given = {name: value for name, value in given.items() if name != "alone"}
        more = {"decoder_input_ids": inputs["decoder_ids"][:, :3]} if given.pop("begins", False) else {}
        ids = inputs["ids"].masked_fill(mask == 0, padding)
        wanted = expected[f"ids.{setting}"]
        for rows in (64, 8):
            found = model.generate(ids, attention_mask=mask, max_rows=rows, **more, **given)
            found = torch.nn.functional.pad(found, (0, wanted.shape[1] - found.shape[1]), value=padding)
            assert found.tolist() == wanted.tolist(), (setting, rows)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.states])
def test_states_and_attention_weights_equal_the_peers(exchange, name):
    case, inputs = CASES[name], make_inputs()
    model = case.model_class.from_pretrained(exchange / "theirs" / name)
    expected = load_file(exchange / "results" / f"states-{name}.safetensors")
    mask, wanted = inputs["mask.right"], {"output_hidden_states": True, "output_attentions": True}
    output = model(inputs["ids"], mask, decoder_input_ids=inputs["decoder_ids"], **wanted)
    for key, value in expected.items():
        field, _, number = key.partition(".")
        pair = output[field][int(number)], value
        if field == "encoder_attentions":  # (rows, heads, queries, keys)
            pair = [weights.transpose(1, 2)[mask.bool()] for weights in pair]
        elif field.startswith("encoder"):
            pair = [states[mask.bool()] for states in pair]
        assert_near(*pair, key)
    assert sum(len(output[field]) for field in {key.partition(".")[0] for key in expected}) == len(expected)


@pytest.mark.parametrize("name", ["t5 tied", "t5 untied", "bart scaled", "bart causal"])
def test_a_cache_changes_nothing(exchange, name):
    """Token by token, and in two pieces; the encoder runs once, and its states may be handed on instead."""
    inputs = make_inputs()
    model = CASES[name].model_class.from_pretrained(exchange / "theirs" / name)
    ids, mask, is_causal = inputs["decoder_ids"], inputs["mask.left"], "causal" in name
    source = {"input_ids": inputs["ids"], "attention_mask": mask}
    if is_causal:
        source = {"encoder_hidden_states": inputs["labels.source"], "encoder_attention_mask": mask}
    key = "input_ids" if is_causal else "decoder_input_ids"
    with torch.no_grad():
        whole = model(**{key: ids}, use_cache=False, **source).logits
        for steps in ([1] * NEW, [4, NEW - 4]):
            cache, found, given = maquette.Cache(), [], source
            for part in ids.split(steps, dim=1):
                found.append(model(**{key: part}, past_key_values=cache, **given).logits)
                given = {}
            assert_near(torch.cat(found, dim=1), whole, f"{name}, {steps}")
        if not is_causal:
            states = model.get_encoder()(inputs["ids"], mask)
            found = model(decoder_input_ids=ids, encoder_outputs=states, attention_mask=mask).logits
            assert_near(found, whole, name)


def test_an_untied_head_is_read_where_the_file_says_tied(tmp_path):
    """As the peer writes version 1.1: always tied in the configuration, with the head's own weights beside it."""
    model = small("t5 untied")
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": True}))
    found = type(model).from_pretrained(tmp_path)
    assert torch.equal(found.lm_head.weight, model.lm_head.weight) and found.lm_head.weight is not found.shared.weight
    assert not found.config.tie_word_embeddings and not found.config.scale_decoder_outputs


def test_stacks_with_vectors_of_their_own_keep_them(tmp_path):
    """Where a file has them once, all begin with these; a vocabulary that grows mixes none of them up."""
    model = small("bart untied")
    stacks, ids = (model.model.encoder, model.model.decoder), torch.tensor([[5, 6, 7, 2]])
    before = [stack.embed_tokens.weight.detach().clone() for stack in stacks]
    logits = model(ids).logits
    model.resize_token_embeddings(60)
    for stack, weight in zip(stacks, before, strict=True):
        assert torch.equal(stack.embed_tokens.weight[:VOCABULARY], weight) and len(stack.embed_tokens.weight) == 60
    assert_near(model(ids).logits[..., :VOCABULARY], logits)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    once = {name: value for name, value in weights.items() if "embed_tokens" not in name}
    save_file(once, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = type(model).from_pretrained(tmp_path).model
    vectors = [found.shared.weight, found.encoder.embed_tokens.weight, found.decoder.embed_tokens.weight]
    assert all(torch.equal(each, once["model.shared.weight"]) for each in vectors)
    assert len({each.data_ptr() for each in vectors}) == 3


@pytest.mark.parametrize("name", ["t5 tied", "bart tied"])
def test_recomputing_activations_changes_no_gradient(name):
    """In both of torch's ways, one of which does not see what a block looks at."""
    inputs, gradients = make_inputs(), []
    for given in (None, {"use_reentrant": False}, {"use_reentrant": True}):
        model = small(name, **{"dropout_rate" if name == "t5 tied" else "dropout": 0.0}).train()
        if given is not None:
            model.gradient_checkpointing_enable(given)
        model(inputs["ids"], inputs["mask.right"], labels=inputs["labels.decoder"]).loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    for found in gradients[1:]:
        for pair in zip(found, gradients[0], strict=True):
            assert_near(*pair, among=gradients[0], steps=STEPS_OF_GRADIENTS, least=0.0)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_t5_keeps_what_would_overflow_in_float16(tmp_path, kind):
    """As the peer does: the layer behind the activation; states are then of float32, and norms bring them back."""
    torch.manual_seed(0)
    case, inputs = CASES["t5 tied"], make_inputs()
    whole = case.model_class(case.config()).eval()
    whole.save_pretrained(tmp_path)
    model = case.model_class.from_pretrained(tmp_path, dtype=kind)
    kept = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
    assert kept == ({name for name in whole.state_dict() if ".wo." in name} if kind == "float16" else set())
    given = {"input_ids": inputs["ids"], "decoder_input_ids": inputs["decoder_ids"]}
    found, expected = model(**given).logits.float(), whole(**given).logits
    steps = torch.finfo(getattr(torch, kind)).eps * expected.abs().max()
    assert (found - expected).abs().max() < 30 * steps
    assert model.generate(inputs["ids"], max_new_tokens=3).shape == (ROWS, 4)


def small(name="t5 tied", **fields):
    torch.manual_seed(0)
    case = CASES[name]
    return case.model_class(getattr(maquette, case.config_name)(**{**case.fields, **fields})).eval()


TEXTS = [[5, 6, 7, 2], [8, 2], [9, 10, 11, 12, 13, 2], [20, 2], [30, 31, 2]]


@pytest.mark.parametrize("name", ["t5 tied", "bart tied"])
@pytest.mark.parametrize(
    "given", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1, "num_return_sequences": 3}], ids=str
)
def test_the_encoder_reads_each_prompt_once(name, given, monkeypatch):
    """Whatever waits, is continued several times, or shares; a row gives what it gives alone."""
    model, read = small(name), []
    encoder = model.get_encoder()
    forward = type(encoder).forward

    def note(self, input_ids, *args, **options):
        read.append(len(input_ids))
        return forward(self, input_ids, *args, **options)

    monkeypatch.setattr(type(encoder), "forward", note)
    found = model.generate(TEXTS, max_new_tokens=6, max_rows=6, **given)
    assert sum(read) == len(TEXTS)
    if "seed" not in given:  # random numbers follow from a row's number
        padding = model.config.pad_token_id
        for row, text in enumerate(TEXTS):
            alone = model.generate([text], max_new_tokens=6, **given)[0].tolist()
            assert found[row].tolist() == alone + [padding] * (found.shape[1] - len(alone))


ASKED = {"return_dict_in_generate": True, "output_hidden_states": True, "output_attentions": True}


@pytest.mark.parametrize("name", ["t5 tied", "bart tied"])
@pytest.mark.parametrize("given", [{}, {"use_cache": False}, {"num_beams": 2}, {"num_return_sequences": 2}], ids=str)
@torch.no_grad()
def test_each_step_has_states_and_attention_of_both(name, given):
    """Against forwards of whole texts, alone; keys are the places of the input, with zeros at padding."""
    model, mask = small(name), torch.tensor([[0, 1, 1, 1, 1], [1, 0, 1, 0, 0], [1, 1, 1, 1, 1]])
    ids = torch.arange(5, 20).view(3, 5)
    more = {"do_sample": True, "seed": 3} if "num_return_sequences" in given else {}
    out = model.generate(ids, attention_mask=mask, max_new_tokens=4, min_new_tokens=4, **ASKED, **given, **more)
    times, beams = given.get("num_return_sequences", 1), given.get("num_beams", 1)
    encoded = model.get_encoder()(ids, mask, output_hidden_states=True, output_attentions=True)
    for field, kept in (("encoder_hidden_states", encoded.hidden_states), ("encoder_attentions", encoded.attentions)):
        assert len(out[field]) == len(kept) and out[field][0].shape == kept[0].shape
        assert_near(out[field][-1], kept[-1], field)
    assert {len(out[f"{kind}s"]) for kind in ("decoder_hidden_state", "decoder_attention", "cross_attention")} == {4}
    for row, text in enumerate(out.sequences):
        prompt, real = row // times, mask[row // times].bool()
        wanted = {"output_hidden_states": True, "output_attentions": True, "use_cache": False}
        whole = model(ids[prompt : prompt + 1], mask[prompt : prompt + 1], decoder_input_ids=text[None], **wanted)
        for step in range(4):
            at = int(out.beam_indices[row, step]) if beams > 1 else row
            assert_near(out.decoder_hidden_states[step][-1][at, -1], whole.decoder_hidden_states[-1][0, step], "states")
            own = out.decoder_attentions[step][-1][at, :, -1]
            assert_near(own[:, -step - 1 :], whole.decoder_attentions[-1][0, :, step, : step + 1], "own")
            cross = out.cross_attentions[step][-1][at, :, -1]
            assert cross.shape[-1] == 5 and not cross[:, ~real].any()
            assert_near(cross, whole.cross_attentions[-1][0, :, step], "cross")


def test_the_decoders_prompt_is_read_in_pieces():
    model = small()
    given = {"decoder_input_ids": [[0, 5, 6, 7, 8, 9, 10], [0, 4], [0], [0, 7, 7], [0]], "max_new_tokens": 4}
    expected, read = model.generate(TEXTS, **given), []
    model.register_forward_pre_hook(lambda _, args, kwargs: read.append(kwargs), with_kwargs=True)
    assert torch.equal(model.generate(TEXTS, prefill_chunk_size=3, **given), expected)
    assert [len(each.get("decoder_input_ids", [[]])[0]) for each in read[:3]] == [1, 3, 3]
    assert sum("input_ids" in each for each in read) == 1


def test_samples_share_what_they_look_at():
    model = small()
    given = {"return_dict_in_generate": True, "do_sample": True, "seed": 1, "num_return_sequences": 4}
    output = model.generate(TEXTS, max_new_tokens=4, **given)
    assert type(output) is maquette.GenerateEncoderDecoderOutput and output.sequences.shape == (20, 5)
    sources = output.past_key_values.sources
    assert sources.texts == [row // 4 for row in range(20)] and sources.lengths == [len(text) for text in TEXTS]
    output.past_key_values.reorder([*range(19), 0])
    assert sources.texts[-1] == 0


def test_states_do_for_texts_and_cached_rows_go_on():
    model = small("bart tied")
    ids = torch.tensor([[5, 6, 7, 8, 2], [8, 9, 2, 1, 1]])
    mask = (ids != 1).long()
    expected = model.generate(ids, max_new_tokens=6)
    states = model.get_encoder()(ids, mask)
    assert torch.equal(model.generate(encoder_outputs=states, attention_mask=mask, max_new_tokens=6), expected)
    drafted = model.generate(ids, max_new_tokens=6, prompt_lookup_num_tokens=2)
    assert torch.equal(drafted, expected)
    assert torch.equal(model.generate(ids, max_new_tokens=6, assistant_model=small("bart tied")), expected)
    waiting = {"assistant_model": model, "max_rows": 2, "num_assistant_tokens": 2}  # texts come after others
    assert torch.equal(model.generate(TEXTS, max_new_tokens=6, **waiting), model.generate(TEXTS, max_new_tokens=6))


def test_a_start_token_that_is_the_one_for_padding_is_read_once():
    """T5's: what begins with it goes on like what is given without it, and a longer row beside it does, too."""
    model, texts = small(), torch.tensor([[5, 6, 7, 2], [8, 9, 10, 2]])
    expected = model.generate(texts, decoder_input_ids=torch.tensor([[7, 8], [9, 10]]), max_new_tokens=3)
    begun = model.generate(texts, decoder_input_ids=torch.tensor([[0, 7, 8], [0, 9, 10]]), max_new_tokens=3)
    assert torch.equal(begun, expected) and begun[:, 0].tolist() == [0, 0] and begun.shape == (2, 6)
    padded = model.generate(texts, decoder_input_ids=torch.tensor([[0, 0, 8], [0, 9, 10]]), max_new_tokens=3)
    alone = model.generate(texts[:1], decoder_input_ids=[[0, 8]], max_new_tokens=3)
    assert padded[1].tolist() == expected[1].tolist() and padded[0, 3:].tolist() == alone[0, 2:].tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing for the encoder to read: give input_ids"),
        (
            {"inputs": [[5, 2]], "decoder_input_ids": [[3], [4]]},
            "decoder_input_ids has 2 rows, and the encoder's input 1",
        ),
        ({"inputs": [[5, 2]], "decoder_inputs_embeds": torch.zeros(1, 1, 16)}, "a decoder begins with ids"),
        ({"encoder_outputs": torch.zeros(2, 3)}, r"last_hidden_state of shape \(prompts, length, dim\)"),
        ({"inputs": [[5, 2]], "decoder_start_token_id": [1, 2]}, "names 2 tokens, and there are 1 prompts"),
    ],
)
def test_inputs_that_cannot_be_read_are_errors(given, message):
    with pytest.raises(maquette.InputError, match=message):
        small().generate(max_new_tokens=2, **given)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_batch_of_padding_alone_gives_zeros(name):
    model, ids, nothing = small(name), make_inputs()["ids"], torch.zeros(ROWS, LENGTH).long()
    for packed in (True, False):
        with use_packing(packed):
            output = model(ids, nothing, decoder_input_ids=ids, decoder_attention_mask=nothing)
        assert not output.last_hidden_state.any() and not output.encoder_last_hidden_state.any()


def test_a_decoder_needs_a_beginning_and_something_to_look_at():
    model, ids = small(decoder_start_token_id=None), torch.tensor([[5, 6, 2]])
    with pytest.raises(maquette.InputError, match="no token to begin with: set decoder_start_token_id"):
        model.generate(ids, max_new_tokens=2)
    with pytest.raises(ValueError, match="decoder_start_token_id=None, pad_token_id=0: labels are moved right"):
        model(ids, labels=ids)
    with pytest.raises(ValueError, match="The decoder has nothing to read"):
        small()(ids)
    with pytest.raises(ValueError, match="encoder_outputs has no last_hidden_state"):
        small()(encoder_outputs=(None,), decoder_input_ids=ids)
    rows = small("bart rows")
    with pytest.raises(ValueError, match="Row 0 of input_ids has no end token"):
        rows(torch.tensor([[5, 6, 7]]))


# Of the peer's common fields, those that ours has no word for, or keeps elsewhere.
NOT_OURS = {"transformers_version", "architectures", "problem_type", "model_type", "id2label", "label2id"}


@pytest.mark.parametrize("name", ["T5Config", "BartConfig"])
def test_configurations_have_the_peers_fields_and_defaults(exchange, name):
    theirs = json.loads((exchange / "defaults.json").read_text())[name]
    ours = getattr(maquette, name)().to_dict()
    for field in theirs.keys() & getattr(maquette, name)._own_fields():
        assert ours[field] == theirs[field], field
    missing = {field for field in theirs if not field.startswith("_")} - ours.keys() - NOT_OURS
    assert not missing
    assert len(getattr(maquette, name)().id2label) == {"T5Config": 2, "BartConfig": 3}[name]
