"""Decoders compute what the peer computes, on either's weights, with padding and without, at once and in steps."""

import json
from pathlib import Path

import pytest
import torch
from exchanged_files import assert_same_names
from rounding import STEPS_OF_GRADIENTS, assert_near
from safetensors.torch import load_file, save_file

import maquette
from maquette.modeling.packing import use_packing

ROWS, LENGTH, VOCABULARY = 4, 11, 53
MASKS = ("none", "right", "left")
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
QWEN_WINDOW = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
FACTORS = {"short_factor": [1.0, 1.3], "long_factor": [2.0, 5.0]}
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8},
    "longrope": {"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 8, **FACTORS},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8,
    },
}


class Case:
    """One class with one configuration, and for which masks it is compared."""

    def __init__(self, name, head, *, masks=MASKS, states=False, sizes=SIZES, options=None, config=None, **fields):
        self.class_name, self.config_name = f"{name}{head}", config or f"{name}Config"
        self.fields, self.masks, self.states, self.options = {**sizes, **fields}, masks, states, options or {}

    @property
    def model_class(self):
        return getattr(maquette, self.class_name)

    @property
    def is_causal(self):
        return self.class_name.endswith(("CausalLM", "LMHeadModel"))

    def config(self):
        return getattr(maquette, self.config_name)(**self.fields)

    def as_dict(self):
        names = {"class": self.class_name, "config": self.config_name, "fields": self.fields}
        return {**names, "masks": self.masks, "states": self.states, "options": self.options}


GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_head": 4, "n_layer": 2, "n_positions": 24, "pad_token_id": 0}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 1, "initializer_range": 0.3}

GEMMA = {**SIZES, "num_hidden_layers": 3, "head_dim": 6, "query_pre_attn_scalar": 8, "sliding_window": 4}
TWO_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
MOE = {"num_experts_per_tok": 2, "num_local_experts": 5}
QWEN_MOE = {"num_experts_per_tok": 2, "num_experts": 5, "moe_intermediate_size": 12, "head_dim": 8}
ROUTED = {"output_router_logits": True}

CASES = {
    "gpt2": Case("GPT2", "Model", sizes=GPT2, states=True),
    "gpt2 causal": Case("GPT2", "LMHeadModel", sizes=GPT2),
    "gpt2 scales": Case("GPT2", "LMHeadModel", sizes=GPT2, n_inner=20, scale_attn_by_inverse_layer_idx=True),
    "gpt2 untied": Case(
        "GPT2",
        "LMHeadModel",
        sizes=GPT2,
        tie_word_embeddings=False,
        scale_attn_weights=False,
        activation_function="relu",
    ),
    "gpt2 rows": Case("GPT2", "ForSequenceClassification", sizes=GPT2, num_labels=3),
    "gpt2 tokens": Case("GPT2", "ForTokenClassification", sizes=GPT2, num_labels=5),
    "gpt2 spans": Case("GPT2", "ForQuestionAnswering", sizes=GPT2),
    "llama": Case("Llama", "Model", states=True),
    "llama causal": Case("Llama", "ForCausalLM"),
    "llama tied": Case("Llama", "ForCausalLM", tie_word_embeddings=True, num_key_value_heads=4),
    "llama biases": Case("Llama", "ForCausalLM", attention_bias=True, mlp_bias=True, head_dim=6, hidden_act="gelu"),
    "llama rows": Case("Llama", "ForSequenceClassification", num_labels=3),
    "llama tokens": Case("Llama", "ForTokenClassification", num_labels=5),
    "llama spans": Case("Llama", "ForQuestionAnswering"),
    "mistral causal": Case("Mistral", "ForCausalLM", sliding_window=4),
    "mistral rows": Case("Mistral", "ForSequenceClassification", num_labels=3, sliding_window=None),
    "mistral spans": Case("Mistral", "ForQuestionAnswering", sliding_window=4),
    "qwen2 causal": Case("Qwen2", "ForCausalLM", **QWEN_WINDOW),
    "qwen2 tokens": Case("Qwen2", "ForTokenClassification", num_labels=5),
    "qwen3 causal": Case("Qwen3", "ForCausalLM", head_dim=8, tie_word_embeddings=True),
    "qwen3 spans": Case("Qwen3", "ForQuestionAnswering", head_dim=8, attention_bias=True, **QWEN_WINDOW),
    "gemma2": Case("Gemma2", "Model", sizes=GEMMA, states=True, **CAPS),
    "gemma2 causal": Case("Gemma2", "ForCausalLM", sizes=GEMMA, **CAPS),
    "gemma2 rows": Case("Gemma2", "ForSequenceClassification", sizes=GEMMA, num_labels=3),
    "gemma2 tokens": Case("Gemma2", "ForTokenClassification", sizes=GEMMA, num_labels=5, attention_bias=True),
    "gemma3": Case(
        "Gemma3", "TextModel", config="Gemma3TextConfig", sizes=GEMMA, sliding_window_pattern=2, states=True
    ),
    "gemma3 causal": Case(
        "Gemma3",
        "ForCausalLM",
        config="Gemma3TextConfig",
        sizes=GEMMA,
        sliding_window_pattern=2,
        rope_parameters=TWO_ROPES,
    ),
    "gemma3 rows": Case(
        "Gemma3", "TextForSequenceClassification", config="Gemma3TextConfig", sizes=GEMMA, num_labels=3
    ),
    "gemma3 both ways": Case(
        "Gemma3",
        "TextModel",
        config="Gemma3TextConfig",
        sizes=GEMMA,
        use_bidirectional_attention=True,
        sliding_window_pattern=2,
    ),
    "mixtral": Case("Mixtral", "Model", states=True, **MOE),
    "mixtral causal": Case("Mixtral", "ForCausalLM", options=ROUTED, router_aux_loss_coef=0.5, **MOE),
    "mixtral tokens": Case("Mixtral", "ForTokenClassification", num_labels=5, sliding_window=4, **MOE),
    "mixtral spans": Case("Mixtral", "ForQuestionAnswering", **MOE),
    "qwen3 moe causal": Case(
        "Qwen3Moe", "ForCausalLM", mlp_only_layers=[0], norm_topk_prob=True, options=ROUTED, **QWEN_MOE
    ),
    "qwen3 moe rows": Case("Qwen3Moe", "ForSequenceClassification", num_labels=3, decoder_sparse_step=2, **QWEN_MOE),
    "qwen3 moe spans": Case("Qwen3Moe", "ForQuestionAnswering", **QWEN_MOE),
    **{
        f"llama {kind}": Case(
            "Llama",
            "ForCausalLM",
            # the peer turns every row by the length of the longest, where the length matters
            masks=("none",) if kind in ("dynamic", "longrope") else MASKS,
            max_position_embeddings=8 if kind == "dynamic" else 16,
            rope_parameters=parameters,
        )
        for kind, parameters in SCALINGS.items()
    },
}


def make_inputs() -> dict[str, torch.Tensor]:
    """Four texts of different lengths, and labels of every kind."""
    torch.manual_seed(7)
    right = (torch.arange(LENGTH) < torch.tensor([11, 4, 1, 7])[:, None]).long()
    return {
        "ids": torch.randint(1, VOCABULARY, (ROWS, LENGTH)),
        "mask.none": torch.ones_like(right),
        "mask.right": right,
        "mask.left": right.flip(1).contiguous(),
        "labels.base": torch.randn(ROWS, LENGTH, 16),
        "labels.causal": torch.randint(0, VOCABULARY, (ROWS, LENGTH)).masked_fill(torch.rand(ROWS, LENGTH) < 0.2, -100),
        "labels.tokens": torch.randint(0, 5, (ROWS, LENGTH)),
        "labels.rows": torch.tensor([0, 2, 1, 1]),
        "labels.spans": torch.randint(0, LENGTH, (2, ROWS)),
    }


@pytest.fixture(scope="module")
def exchange(tmp_path_factory, run_peer):
    """A folder through which both libraries went: our models, theirs, and what the peer computes with each."""
    folder = tmp_path_factory.mktemp("decoders")
    (folder / "results").mkdir()
    save_file(make_inputs(), folder / "inputs.safetensors")
    about = {name: case.as_dict() for name, case in CASES.items()}
    (folder / "cases.json").write_text(json.dumps(about), encoding="utf-8")
    for name, case in CASES.items():
        torch.manual_seed(0)
        model = case.model_class(case.config())
        model.save_pretrained(folder / "ours" / name, max_shard_size="10KB")
    run_peer(Path(__file__).parent / "peer_decoders.py", folder)
    return folder


def compute(model, case, mask, inputs, *, packed):
    """Give our outputs, loss and gradients, named as the peer's script names them."""
    ids, kind = inputs["ids"].masked_fill(mask == 0, 0), case.class_name
    given = {"use_cache": False, **case.options}
    with use_packing(packed):
        if kind.endswith("Model") and "LMHead" not in kind:
            output = model(ids, mask, **given)
            loss = (output.last_hidden_state * inputs["labels.base"] * mask[..., None]).mean()
        elif "QuestionAnswering" in kind:
            start, end = places_of_spans(mask, inputs["labels.spans"])
            output = model(ids, mask, start_positions=start, end_positions=end, **given)
            loss = output.loss
        else:
            name = next((n for n in ("tokens", "rows") if n in LABELS_OF.get(kind_of(kind), "")), "causal")
            output = model(ids, mask, labels=inputs[f"labels.{name}"], **given)
            loss = output.loss
    model.zero_grad()
    loss.backward()
    gradients = {f"grad.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    outputs = {n: value for n, value in output.items() if isinstance(value, torch.Tensor) and n != "loss"}
    return {**outputs, "loss": loss, **gradients}


LABELS_OF = {"TokenClassification": "tokens", "SequenceClassification": "rows"}


def kind_of(class_name):
    return class_name.partition("For")[2]


def places_of_spans(mask, labels):
    real = [row.nonzero()[:, 0] for row in mask]
    return [
        torch.stack([places[rank % len(places)] for places, rank in zip(real, column, strict=True)])
        for column in labels
    ]


def take_real(mask, *tensors):
    return [tensor[mask.bool()] if tensor.shape[:2] == mask.shape else tensor for tensor in tensors]


def our_name(key):
    """Mixtral's blocks have in the peer's memory other names than in its files."""
    return key.replace(".mlp.gate.", ".block_sparse_moe.gate.").replace(".mlp.experts.", ".block_sparse_moe.experts.")


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_peer(exchange, name, whose):
    case, inputs = CASES[name], make_inputs()
    expected = load_file(exchange / "results" / f"{whose}-{name}.safetensors")
    if name.startswith("mixtral"):
        expected = {our_name(key): value for key, value in expected.items()}
    model = case.model_class.from_pretrained(exchange / whose / name)
    for mask_name in case.masks if whose == "theirs" else case.masks[-1:]:
        mask = inputs[f"mask.{mask_name}"]
        for packed in (True, False) if mask_name != "none" else (None,):
            found = compute(model, case, mask, inputs, packed=packed)
            gradients = [value for key, value in expected.items() if key.startswith(f"{mask_name}.grad.")]
            for key, value in found.items():
                where, options = f"{name}, {mask_name}, packed={packed}: {key}", {}
                if key.startswith("grad."):
                    options = {"among": gradients, "steps": STEPS_OF_GRADIENTS, "least": 0.0}
                assert_near(*take_real(mask, value, expected[f"{mask_name}.{key}"]), where, **options)
            assert {f"{mask_name}.{n}" for n in found} == {n for n in expected if n.startswith(f"{mask_name}.")}


@pytest.mark.parametrize("name", CASES)
def test_files_have_the_peers_names(exchange, name):
    assert_same_names(exchange, name)


@pytest.mark.parametrize("name", [n for n in CASES if not n.endswith(("rows", "spans", "dynamic", "both ways"))])
def test_a_cache_changes_nothing(exchange, name):
    """Token by token, and in two pieces: what the peer computes at once."""
    inputs, key = make_inputs()["ids"], "logits"
    expected = load_file(exchange / "results" / f"theirs-{name}.safetensors")
    if f"none.{key}" not in expected:
        key = "last_hidden_state"
    model = CASES[name].model_class.from_pretrained(exchange / "theirs" / name)
    first = 9 if "longrope" in name else 1  # a row that grows beyond the original length keeps the keys it has
    for steps in ([first, *[1] * (LENGTH - first)], [9, LENGTH - 9]):
        cache = maquette.Cache()
        with torch.no_grad():
            parts = [model(ids, past_key_values=cache)[key] for ids in inputs.split(steps, dim=1)]
        assert_near(torch.cat(parts, dim=1), expected[f"none.{key}"], f"{name}, {steps}")


@pytest.mark.parametrize("name", [n for n in CASES if n.endswith("causal")])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_rows_go_on_as_they_would_alone(exchange, name, side):
    """What a ragged batch has read makes the next tokens' logits, the same as each row's by itself."""
    inputs = make_inputs()
    model = CASES[name].model_class.from_pretrained(exchange / "theirs" / name)
    mask, following = inputs[f"mask.{side}"], inputs["ids"][:, :3]
    with torch.no_grad():
        past = model(inputs["ids"], mask, use_cache=True).past_key_values
        found = model(following, past_key_values=past).logits
        for row, real in enumerate(mask.bool()):
            alone = torch.cat([inputs["ids"][row, real], following[row]])[None]
            assert_near(found[row], model(alone, use_cache=False).logits[0, -3:], f"row {row}")


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.is_causal and case.masks == MASKS])
def test_generates_the_peers_ids(exchange, name):
    """Greedily and with beams, from ragged prompts, with the end token of the configuration."""
    inputs, mask = make_inputs(), make_inputs()["mask.left"]
    expected = load_file(exchange / "results" / f"theirs-{name}.safetensors")
    model = CASES[name].model_class.from_pretrained(exchange / "theirs" / name)
    for beams in (1, 3):
        ids = inputs["ids"].masked_fill(mask == 0, 0)
        found = model.generate(ids, attention_mask=mask, max_new_tokens=9, num_beams=beams, do_sample=False)
        found = torch.nn.functional.pad(found, (0, LENGTH + 9 - found.shape[1]))
        end = model.config.eos_token_id
        assert cut(found, end) == cut(expected[f"ids.{beams}"], end), f"{beams} beams"


def cut(rows, end):
    """Take off what follows the end of each row: the peer's beams fill up with end tokens where padding is entry 0."""
    found = []
    for row in rows.tolist():
        new = row[LENGTH:]
        found.append(row[: LENGTH + new.index(end) + 1] if end in new else row)
    return found


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.states])
def test_states_and_attention_weights_equal_the_peers(exchange, name):
    case, inputs = CASES[name], make_inputs()
    model = case.model_class.from_pretrained(exchange / "theirs" / name)
    expected = load_file(exchange / "results" / f"states-{name}.safetensors")
    mask = inputs["mask.right"]
    output = model(inputs["ids"], mask, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) + len(output.attentions) == len(expected)
    for number, states in enumerate(output.hidden_states):
        assert_near(*take_real(mask, states, expected[f"state.{number}"]), f"state {number}")
    for number, weights in enumerate(output.attentions):  # (rows, heads, queries, keys)
        pair = (w.transpose(1, 2) for w in (weights, expected[f"weights.{number}"]))
        assert_near(*take_real(mask, *pair), f"weights {number}")


# Configurations --------------------------------------------------------------------------------------------------

# Of the peer's common fields, those that ours has no word for, or keeps elsewhere.
NOT_OURS = {"transformers_version", "architectures", "problem_type", "model_type", "id2label", "label2id"}
NOT_OURS |= {"num_local_experts"}  # another name for num_experts in Qwen3-MoE
# A window that is not used is kept here, and forgotten there.
DIFFERENT = {name: {"sliding_window"} for name in ("Qwen2Config", "Qwen3Config", "Qwen3MoeConfig")}


@pytest.mark.parametrize("name", sorted({case.config_name for case in CASES.values()}))
def test_configurations_have_the_peers_fields_and_defaults(exchange, name):
    theirs = json.loads((exchange / "defaults.json").read_text())[name]
    ours = getattr(maquette, name)().to_dict()
    own = getattr(maquette, name)._own_fields()
    for field in theirs.keys() & own - DIFFERENT.get(name, set()):
        assert ours[field] == theirs[field], field
    missing = {field for field in theirs if not field.startswith("_")} - ours.keys() - NOT_OURS
    assert not missing


# What one may ask ------------------------------------------------------------------------------------------------


def small(name="llama causal", **fields):
    torch.manual_seed(0)
    case = CASES[name]
    return case.model_class(getattr(maquette, case.config_name)(**{**case.fields, **fields}))


@pytest.mark.parametrize("side", ["none", "right", "left"])
def test_logits_are_kept_of_chosen_places(side):
    """The last real tokens, places for all rows or for each, or a mask; with labels, the loss stays what it is."""
    inputs, model = make_inputs(), small().eval()
    ids, mask = inputs["ids"], inputs[f"mask.{side}"]
    whole = model(ids, mask, labels=ids)
    lasts = [whole.logits[row, real.nonzero()[:, 0]] for row, real in enumerate(mask)]
    for count in (1, 3):
        for found in (model(ids, mask, logits_to_keep=count), model(ids, mask, logits_to_keep=count, labels=ids)):
            assert found.loss is None or torch.equal(found.loss, whole.loss)
            for row, expected in enumerate(lasts):
                real = min(count, len(expected))
                assert_near(found.logits[row, count - real :], expected[-real:])
                assert not found.logits[row, : count - real].any()
    places = torch.tensor([[0, 3], [2, 2], [1, 0], [6, 10]])
    assert_near(model(ids, mask, logits_to_keep=places).logits, whole.logits.take_along_dim(places[..., None], 1))
    assert_near(model(ids, mask, logits_to_keep=torch.tensor([4, 0])).logits, whole.logits[:, [4, 0]])
    assert_near(model(ids, mask, logits_to_keep=mask.bool()).logits, whole.logits[mask.bool()])


def test_the_loss_counts_what_it_is_told_to():
    inputs, model = make_inputs(), small().eval()
    ids, mask = inputs["ids"], inputs["mask.left"]
    loss = model(ids, mask, labels=ids).loss
    counted = int((mask.sum(1) - 1).clamp(min=0).sum())
    assert_near(model(ids, mask, labels=ids, num_items_in_batch=7).loss, loss * counted / 7)
    assert model(ids, mask, labels=torch.full_like(ids, -100)).loss == 0


@pytest.mark.parametrize("name", ["gpt2 causal", "llama causal", "gemma3 causal", "mixtral causal"])
def test_recomputing_activations_changes_no_gradient(name):
    inputs, gradients = make_inputs(), []
    for recompute in (False, True):
        model = small(name, **({"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0} if "gpt2" in name else {}))
        model.train()
        if recompute:
            model.gradient_checkpointing_enable()
        output = model(inputs["ids"], inputs["mask.right"], labels=inputs["ids"], use_cache=recompute)
        assert output.past_key_values is None
        output.loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    for parameter, gradient in gradients[0].items():
        assert_near(gradients[1][parameter], gradient, parameter, among=gradients[0].values(), least=0.0)


def test_vectors_do_for_ids_and_caches_are_given_where_wanted():
    inputs, model = make_inputs(), small().eval()
    expected = model(inputs["ids"], inputs["mask.right"])
    vectors = model.get_input_embeddings()(inputs["ids"])
    assert_near(model(inputs_embeds=vectors, attention_mask=inputs["mask.right"]).logits, expected.logits)
    assert expected.past_key_values is not None
    assert model(inputs["ids"], use_cache=False).past_key_values is None
    assert model(inputs["ids"], labels=inputs["ids"]).past_key_values is None
    assert model(inputs["ids"], labels=inputs["ids"], use_cache=True).past_key_values is not None
    assert model.train()(inputs["ids"]).past_key_values is None
    one = model.eval()(inputs["ids"][:1, :1]).past_key_values
    assert_near(model(inputs_embeds=vectors[:1, 1:2], past_key_values=one).logits, expected.logits[:1, 1:2])


def test_a_row_of_padding_only_gives_zeros():
    model, ids = small().eval(), make_inputs()["ids"][:2, :4]
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    for packed in (True, False):
        with use_packing(packed):
            output = model(ids, mask, labels=ids, use_cache=False)
        assert output.loss.isfinite() and output.logits.isfinite().all() and not output.logits[1].any()


def test_without_a_mask_padding_at_the_end_is_seen():
    """As the peer sees it: where the configuration names a padding token, by the ids."""
    inputs, model = make_inputs(), small("llama rows").eval()
    mask = inputs["mask.right"]
    ids = inputs["ids"].masked_fill(mask == 0, 0)
    assert_near(model(ids).logits, model(ids, mask).logits)


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        ("LlamaConfig", {"num_attention_heads": 4, "num_key_value_heads": 3}, "cannot share num_key_value_heads=3"),
        ("Qwen2Config", {"num_hidden_layers": 2, "layer_types": ["full_attention"]}, "layer_types names 1 layers"),
        ("Qwen2Config", {"num_hidden_layers": 1, "layer_types": ["sliding"]}, "layer_types"),
        ("MixtralConfig", {"num_local_experts": 2, "num_experts_per_tok": 3}, "num_experts_per_tok=3: there are 2"),
        ("GPT2Config", {"n_embd": 10, "n_head": 3}, "n_embd=10 cannot be shared equally by n_head=3"),
        ("Gemma2Config", {"use_bidirectional_attention": True}, "reads from left to right only"),
        ("MistralConfig", {"sliding_windw": 3}, "Did you mean 'sliding_window'"),
    ],
)
def test_configurations_that_contradict_themselves_are_errors(config, fields, message):
    with pytest.raises(maquette.ConfigurationError) as caught:
        getattr(maquette, config)(**fields)
    assert message in str(caught.value)


def test_more_tokens_than_positions_are_an_error():
    model = small("gpt2 causal").eval()
    ids = torch.ones(1, 20, dtype=torch.long)
    cache = model(ids).past_key_values
    with pytest.raises(ValueError, match="25 tokens in a row, cached ones included, and 24 positions"):
        model(ids[:, :5], past_key_values=cache)


@pytest.mark.parametrize("family", ["Llama", "Mistral", "GPT2"])
def test_a_causal_checkpoint_begins_every_head(family, tmp_path):
    """The blocks are those of the file, whatever the head calls its base model; the head is new, which is said."""
    causal = small({"Llama": "llama causal", "Mistral": "mistral causal", "GPT2": "gpt2 causal"}[family])
    causal.save_pretrained(tmp_path)
    expected = causal.base_model.state_dict()
    for head in ("SequenceClassification", "TokenClassification", "QuestionAnswering"):
        model, info = getattr(maquette, f"{family}For{head}").from_pretrained(tmp_path, output_loading_info=True)
        found = model.base_model.state_dict()
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
        assert all(name.startswith(("score", "classifier", "qa_outputs")) for name in info["missing_keys"])


def test_gemma_3_reads_what_older_files_say():
    old = {"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    config = maquette.Gemma3TextConfig(num_hidden_layers=4, sliding_window_pattern=2, **old)
    assert config.rope_parameters == {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
    }
    assert config.layer_types == ["sliding_attention", "full_attention"] * 2
    assert (config.rope_theta, config.rope_scaling["factor"]) == (5e5, 8.0)
    assert maquette.Gemma3TextConfig(**{**config.to_dict(), "maquette_version": None}) == config


def test_a_model_that_sees_later_tokens_refuses_a_cache():
    model = small("gemma3 both ways").eval()
    with pytest.raises(ValueError, match="earlier tokens see later ones"):
        model(torch.ones(1, 3, dtype=torch.long), past_key_values=maquette.Cache())
