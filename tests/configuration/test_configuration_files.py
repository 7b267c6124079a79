"""Configurations and files: what is read, kept, refused and written, and code that was written for the peer."""

import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import LoopbackHub
from sample_configurations import (
    DerivesFirst,
    DerivesFromFields,
    DerivesLast,
    DistilBert,
    DistilBertByHand,
    Doubles,
    HardCodes,
    Holds,
    Loses,
    Nested,
    PassesOn,
    Pops,
    Resnet,
    Text,
    Transforms,
    reload,
    write,
)

from maquette import (
    ConfigurationError,
    FileFormatError,
    MissingFileError,
    PretrainedConfig,
    SaveError,
    UnknownFieldError,
    __version__,
)
from maquette.configuration import construction

either = pytest.mark.parametrize("cls", [DistilBert, DistilBertByHand])


# Reading ------------------------------------------------------------------------------------------------------------


@either
def test_folders_files_overrides_and_unused_keywords(cls: Any, tmp_path: Path) -> None:
    config = cls(dim=24, n_heads=4, dtype="float16", id2label={0: "no", 1: "yes"})
    config.save_pretrained(tmp_path / "model")
    config.to_json_file(tmp_path / "my_config.json")
    text = (tmp_path / "model" / "config.json").read_text(encoding="utf-8")
    assert text == (tmp_path / "my_config.json").read_text(encoding="utf-8") == config.to_json_string()
    for place in (tmp_path / "model", tmp_path / "model/config.json", str(tmp_path / "my_config.json")):
        again = cls.from_pretrained(place)
        assert again == config and again.name_or_path == str(place) and "name_or_path" not in again.to_json_string()
    assert cls.from_json_file(tmp_path / "my_config.json") == cls.from_dict(json.loads(text)) == config
    changed, unused = cls.from_pretrained(tmp_path / "model", hidden_size=48, foo=1, return_unused_kwargs=True)
    assert (changed.dim, changed.n_heads, changed.id2label, unused) == (48, 4, config.id2label, {"foo": 1})
    with pytest.raises(UnknownFieldError, match=r"'n_head'.*'n_heads'"):
        cls.from_pretrained(tmp_path / "model", n_head=2)
    with pytest.raises(ConfigurationError, match=r"config.json with dim given: .*dim: Expected int"):
        cls.from_pretrained(tmp_path / "model", dim="x")
    assert cls.get_config_dict(tmp_path / "model", foo=1) == (json.loads(text), {"foo": 1})
    with pytest.raises(MissingFileError, match=r"my_confi.json.*Did you mean 'my_config.json'"):
        cls.from_json_file(tmp_path / "my_confi.json")


def test_a_repository_of_the_hub(tmp_path: Path, run_fresh: Callable[..., str]) -> None:
    code = """
from maquette import PretrainedConfig
config = PretrainedConfig.from_pretrained("user/model", revision="main", dim=4)
print(config.dim, config.depth, config.name_or_path)
"""
    with LoopbackHub() as hub:
        hub.add_commit("user/model", {"config.json": b'{"model_type": "tiny", "dim": 3, "depth": 2}'})
        assert run_fresh(code, env=hub.environ(tmp_path / "hub")) == "4 2 user/model\n"


def test_overrides_mend_a_file_and_replace_labels(tmp_path: Path) -> None:
    place = write(
        tmp_path, {"dim": "x", "id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    )
    assert Text.from_pretrained(place, dim=3).num_labels == 3
    assert Text.from_pretrained(place, dim=3, num_labels=5).label2id["LABEL_4"] == 4
    assert Text.from_pretrained(place, dim=3, extra={"team": 1}).extra == {"team": 1}


def test_versions_are_kept_and_unknown_keys_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {
        "transformers_version": "4.16.2",
        "maquette_version": "0.0.1",
        "dims": 3,
        "self": 1,
        "extra": {"a": 1},
        "cls_id": 5,
    }
    write(tmp_path, {**content, "model_type": "text", "auto_map": {"AutoConfig": "mine.Text"}, "top_k": 3})
    with caplog.at_level(logging.WARNING):
        config = Text.from_pretrained(tmp_path)
        Text.from_pretrained(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/config.json: the unknown key 'dims' is kept as it is; is 'dim' meant?"
    ]
    assert (config.dims, config.cls_id, config.top_k, config.dim) == (3, 5, 3, 8)
    config.top_p = 0.5
    config.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text(encoding="utf-8"))
    assert written == written | content | {"maquette_version": __version__, "top_p": 0.5, "top_k": 3}
    plain = PretrainedConfig.from_dict({"model_type": "foreign", "dim": 3})
    assert json.loads(plain.to_json_string()) == {"model_type": "foreign", "dim": 3, "maquette_version": __version__}


def test_a_dictionary_is_expected() -> None:
    with pytest.raises(ConfigurationError, match="the given dictionary: Expected a dictionary, got list"):
        Text.from_dict([1])
    with pytest.raises(ConfigurationError, match="names are texts"):
        Nested(text={1: 2})


def test_another_model_type_is_reported(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(construction, "_reported", set())
    assert Text.from_dict({"model_type": "bert", "dim": 3}).model_type == "text"
    assert "the model type 'bert' is read as Text ('text')" in caplog.text


# Code written for the peer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "arguments", "attributes"),
    [
        (Pops, {"ratio": 5, "tie_word_embeddings": True}, {"ratio": 5, "tie_word_embeddings": True}),
        (Pops, {}, {"ratio": 3, "tie_word_embeddings": False}),
        (DerivesFirst, {"dim": 12}, {"head_dim": 6}),
        (DerivesLast, {"dim": 12}, {"head_dim": 6}),
        (DerivesFromFields, {"dim": 12}, {"head_dim": 6}),
        (PassesOn, {}, {"dim": 8, "pad_token_id": 1, "use_cache": True, "dtype": "float16", "scale": 0.5}),
        (PassesOn, {"use_cache": False, "dtype": "float32"}, {"use_cache": False, "torch_dtype": "float32"}),
        (HardCodes, {"dim": 12}, {"is_encoder_decoder": True, "max_length": 5, "num_labels": 3, "dim": 12}),
        (HardCodes, {"is_encoder_decoder": True}, {"is_encoder_decoder": True}),
        (Transforms, {}, {"sizes": [3, 4], "rank": 4, "dim": None}),
        (Transforms, {"sizes": "5", "rank": 2, "dim": 3}, {"sizes": [5], "rank": 2, "dim": 3}),
    ],
)
def test_wild_constructors(cls: Any, arguments: dict[str, Any], attributes: dict[str, Any], tmp_path: Path) -> None:
    config = cls(**arguments)
    again = reload(config, tmp_path)
    assert again == config == cls(**config.to_dict()) == pickle.loads(pickle.dumps(config))
    for each in (config, again):
        assert {name: getattr(each, name) for name in attributes} == attributes
    with pytest.raises(UnknownFieldError, match="no field 'foreign'"):
        cls(foreign=1)
    assert cls.from_dict({**config.to_dict(), "foreign": 1}).foreign == 1


@pytest.mark.parametrize("cls", [DerivesFirst, DerivesLast, DerivesFromFields])
def test_what_is_derived_follows_overrides_unless_it_was_edited(cls: Any, tmp_path: Path) -> None:
    config = cls(dim=12)
    assert reload(config, tmp_path, dim=16).head_dim == 8
    config.head_dim = 5
    assert reload(config, tmp_path).head_dim == cls.from_pretrained(tmp_path, dim=16).head_dim == 5
    assert cls.from_pretrained(tmp_path, head_dim=7).head_dim == 7
    with pytest.raises(ConfigurationError, match=r"head_dim: is set to 6 by the code of .*given as 5"):
        cls(dim=12, head_dim=5)


def test_what_is_hard_coded_can_be_edited_and_saved(tmp_path: Path) -> None:
    config = HardCodes()
    config.is_encoder_decoder, config.max_length = False, 7
    again = reload(config, tmp_path)
    assert again == config and (again.is_encoder_decoder, again.max_length) == (False, 7)
    with pytest.raises(ConfigurationError, match="is_encoder_decoder: is set to True by the code of HardCodes"):
        HardCodes(is_encoder_decoder=False)


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "is not JSON"),
        ('{"width": 1, "width": 2}', "'width' twice"),
        ("[1]", "an object"),
        ('{"width": NaN}', "width: Expected a number as in the default, 64, got nan"),
        ('{"layers": [3, NaN]}', "layers[1]: Expected int, got float (found nan)"),
        ({"layers": [3, "4"]}, "layers[1]: Expected int, got str (found '4')"),
        ({"width": "64"}, "width: Expected a number as in the default, 64, got '64'"),
        ({"block_type": "x"}, "`block_type` must be 'basic'"),
        ({"model_type": 3}, "model_type: must be a text such as 'resnet', not 3"),
        ({"model_type": None}, "model_type: must be a text"),
        ({"auto_map": ["x"]}, "auto_map: must map AutoClasses to classes"),
        ({"to_dict": 3}, "the key 'to_dict' is the name of a method of Resnet"),
        ({"id2label": {"0": "a"}, "num_labels": 2}, "num_labels: is 2, but id2label names 1 classes"),
        ({"id2label": {"0": "a"}, "label2id": {"b": 0}}, "label2id: is not the inverse of id2label"),
        ({"label2id": {"a": 0, "b": 0}}, "label2id: gives two labels the same number"),
        ({"id2label": {"x": "a"}}, "id2label['x']: Expected int"),
        ({"id2label": ["a"]}, "id2label: Expected dict, got list"),
        ({"pad_token_id": "0", "is_decoder": 1}, "is_decoder: Expected bool"),
        ({"torch_dtype": "float16", "dtype": "float32"}, "dtype: is given twice"),
        ({"pruned_heads": {"a": [1]}}, "pruned_heads['a']: Expected int"),
        ({"problem_type": "regresion"}, "Did you mean 'regression'?"),
    ],
)
def test_a_bad_file_is_one_error_that_names_it(content: Any, part: str, tmp_path: Path) -> None:
    write(tmp_path, content)
    with pytest.raises((ConfigurationError, FileFormatError)) as caught:
        Resnet.from_pretrained(tmp_path)
    assert f"{tmp_path}/config.json" in str(caught.value) and part in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"__init__": lambda self, dim=1: None}, r"must end in \*\*kwargs"),
        ({"__init__": lambda self, diff=1, **kwargs: None}, "names a field like a method .*diff"),
        ({"__annotations__": {"save_pretrained": int}}, "names a field like a method .*save_pretrained"),
        ({"__annotations__": {"extra": dict}}, "names a field like a method .*extra"),
        ({"__annotations__": {"dim": int}, "aliases": {"size": "dimm"}}, "'dimm'. Did you mean 'dim'"),
    ],
)
def test_a_class_that_cannot_work_is_refused_where_it_is_written(body: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        type("Broken", (PretrainedConfig,), body)


def test_a_constructor_has_to_call_the_base() -> None:
    forgetful = type("Forgetful", (PretrainedConfig,), {"__init__": lambda self, dim=1, **kwargs: None})
    with pytest.raises(TypeError, match=r"Forgetful.__init__ must call super\(\).__init__\(\*\*kwargs\)"):
        forgetful()


def test_required_fields() -> None:
    class Needs(PretrainedConfig):
        dim: int
        depth: int

    with pytest.raises(ConfigurationError, match=r"depth: needs a value(?s:.*)dim: needs a value"):
        Needs.from_dict({})
    assert Needs(dim=1, depth=2).to_dict()["depth"] == 2
    with pytest.raises(TypeError, match="positional"):
        Needs(1, 2)


def test_names_that_cannot_be_set() -> None:
    class Bare(PretrainedConfig):
        width = 3

    with pytest.raises(UnknownFieldError, match="annotate it there, width: int"):
        Bare(width=4)
    with pytest.raises(UnknownFieldError, match="'to_dict' is a method"):
        Bare().to_dict = 3
    with pytest.raises(ConfigurationError, match="'to_dict' is the name of a method"):
        Bare(extra={"to_dict": 3})
    config = Text(dim=3)
    with pytest.raises(ConfigurationError):
        config.update({"act": "relu", "dim": 0})
    assert config == Text(dim=3)
    config.update({"act": "relu", "num_labels": 3})
    assert (config.act, config.num_labels) == ("relu", 3)


# Saving -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Loses(), "Loses.__init__ takes dim, pad_token_id and does not keep what it got. .*self.dim = dim"),
        (Doubles(), "would not read back as it is: dim would change"),
        (Holds(value=object()), "'value' is a object, which JSON cannot hold"),
        (Holds(popped=len), "'popped' is a builtin_function_or_method"),
        (Holds(value={"a": [1, {"b": 1j}]}), r"'value.a\[1\].b' is a complex"),
        (Holds(value={(1, 2): 3}), "'value' has keys of type tuple"),
        (Holds(value={1: 2}), "value would change.*keys are numbers"),
        (Holds(value="\ud800"), "lone surrogate"),
        (Nested(any=Loses()), r"Loses.__init__ takes dim, pad_token_id"),
        (Holds(value=Text()), "value would change.*a nested configuration"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(config: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=message):
        config.save_pretrained(tmp_path / "new" / "model")
    with pytest.raises(SaveError, match=message):
        config.to_json_file(tmp_path / "my_config.json")
    assert list(tmp_path.iterdir()) == []
    assert repr(config).startswith(type(config).__name__) and config == config


def test_saving_into_a_file_or_folder_of_the_wrong_kind(tmp_path: Path) -> None:
    place = write(tmp_path, {"dim": 3})
    with pytest.raises(SaveError, match="it is a file"):
        Text().save_pretrained(place)
    with pytest.raises(SaveError, match="it is a folder"):
        Text().to_json_file(tmp_path)
    assert json.loads(place.read_text(encoding="utf-8")) == {"dim": 3} and os.listdir(tmp_path) == ["config.json"]


# Parity -------------------------------------------------------------------------------------------------------------


# What the peer's base configuration writes, of the versions 4.57.1 and 5.23.0.
PEER_DEFAULTS = json.loads("""
{"return_dict": true, "output_hidden_states": false, "torchscript": false, "dtype": null, "pruned_heads": {},
"tie_word_embeddings": true, "chunk_size_feed_forward": 0, "is_encoder_decoder": false, "is_decoder": false,
"cross_attention_hidden_size": null, "add_cross_attention": false, "tie_encoder_decoder": false, "architectures": null,
"finetuning_task": null, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1},
"task_specific_params": null, "problem_type": null, "tokenizer_class": null, "prefix": null, "bos_token_id": null,
"pad_token_id": null, "eos_token_id": null, "sep_token_id": null, "decoder_start_token_id": null, "max_length": 20,
"min_length": 0, "do_sample": false, "early_stopping": false, "num_beams": 1, "temperature": 1.0, "top_k": 50,
"top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0, "length_penalty": 1.0, "no_repeat_ngram_size": 0,
"encoder_no_repeat_ngram_size": 0, "bad_words_ids": null, "num_return_sequences": 1, "output_scores": false,
"return_dict_in_generate": false, "forced_bos_token_id": null, "forced_eos_token_id": null,
"remove_invalid_values": false, "exponential_decay_length_penalty": null, "suppress_tokens": null,
"begin_suppress_tokens": null, "num_beam_groups": 1, "diversity_penalty": 0.0, "_name_or_path": "",
"tf_legacy_loss": false, "use_bfloat16": false, "model_type": "", "output_attentions": false}
""")
PEER_NAMES = {
    "num_labels": 2,
    "torch_dtype": None,
    "name_or_path": "",
    "attn_implementation": None,
    "_commit_hash": None,
}


@either
def test_every_field_of_the_peers_base_is_accepted(cls: Any) -> None:
    arguments = {name: value for name, value in PEER_DEFAULTS.items() if name != "model_type"}
    expected = {**arguments, "id2label": {0: "LABEL_0", 1: "LABEL_1"}}
    del expected["_name_or_path"]
    for config in (cls(**arguments, **PEER_NAMES), cls.from_dict({**arguments, **PEER_NAMES})):
        assert {name: getattr(config, name) for name in expected} == expected
        assert cls.from_dict(json.loads(config.to_json_string())) == config


PEER_SCRIPT = """
import json, sys
from transformers import DistilBertConfig, PretrainedConfig
DistilBertConfig(n_layers=3, id2label={0: "a"}).save_pretrained(sys.argv[1])
ours = DistilBertConfig.from_pretrained(sys.argv[2])
values = PretrainedConfig().to_dict()
values.pop("transformers_version")
print(json.dumps([values, ours.n_layers, ours.id2label, ours.num_labels]))
"""


def test_parity_with_the_peer(run_peer: Callable[..., str], tmp_path: Path) -> None:
    DistilBert(n_layers=2, num_labels=3).save_pretrained(tmp_path / "ours")
    output = run_peer(PEER_SCRIPT, tmp_path / "theirs", tmp_path / "ours")
    values, n_layers, id2label, num_labels = json.loads(output.splitlines()[-1])
    assert values == {name: PEER_DEFAULTS[name] for name in values} and len(values) > 10
    assert (n_layers, num_labels, id2label["2"]) == (2, 3, "LABEL_2")
    for cls in (DistilBert, DistilBertByHand):
        config = cls.from_pretrained(tmp_path / "theirs")
        assert (config.n_layers, config.id2label, config.extra) == (3, {0: "a"}, {})
