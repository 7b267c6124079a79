"""`GenerationConfig`: what it accepts, refuses and says, and its file, both ways with the peer."""

import copy
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from logit_cases import FOREIGN, OWN, SETTINGS

from maquette import (
    ConfigurationError,
    FileFormatError,
    GenerationConfig,
    MissingFileError,
    PretrainedConfig,
    UnknownFieldError,
    WatermarkingConfig,
)
from maquette.generation import configuration
from maquette.generation.setting_rules import DEFAULTS, MISSING, SAMPLING, UNUSED
from maquette.generation.settings import Settings


@pytest.fixture(autouse=True)
def _said_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "_reported", set())


@pytest.fixture
def exchange(peer_side: Path) -> Path:
    return peer_side / "settings"


def test_the_peer_reads_our_files(exchange: Path) -> None:
    read = json.loads((exchange / "read.json").read_text())
    for name, settings in {**SETTINGS, **OWN}.items():
        assert {key: read[name][key] for key in settings} == settings, name


def test_we_read_the_peers_files_and_write_them_again(exchange: Path, tmp_path: Path) -> None:
    for name, settings in {**SETTINGS, **FOREIGN}.items():
        config = GenerationConfig.from_pretrained(exchange / "theirs" / name)
        found = json.loads(json.dumps({key: getattr(config, key) for key in settings}))
        assert found == settings, name
        config.save_pretrained(tmp_path / name)
        again = json.loads((tmp_path / name / "generation_config.json").read_text())
        stored = json.loads((exchange / "theirs" / name / "generation_config.json").read_text())
        assert {key: again[key] for key in stored} == stored, name
        assert GenerationConfig.from_pretrained(tmp_path / name) == config


def test_every_setting_of_the_peer_is_one_of_ours(exchange: Path) -> None:
    theirs = set(json.loads((exchange / "names.json").read_text())) - {"transformers_version"}
    assert {name for name in theirs if not GenerationConfig.is_setting(name)} == set()


def test_what_nobody_sets_is_none() -> None:
    config = GenerationConfig()
    assert all(getattr(config, name) is None for name in GenerationConfig._fields())
    assert config.to_diff_dict().keys() == {"maquette_version"}


def test_every_rule_is_about_a_setting() -> None:
    assert {*DEFAULTS, *SAMPLING, *MISSING, *UNUSED} <= GenerationConfig._fields().keys()
    assert vars(Settings)["__annotations__"].keys() == GenerationConfig._fields().keys()


def test_a_typo_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UnknownFieldError, match=r"'max_new_tokns'\. Did you mean 'max_new_tokens'"):
        GenerationConfig(max_new_tokns=3)
    config = GenerationConfig()
    with pytest.raises(UnknownFieldError, match="'top_k'"):
        config.topk = 3
    with pytest.raises(UnknownFieldError, match="'top_p'"):
        config.update(topp=0.5)
    with pytest.raises(UnknownFieldError, match="'top_p'"):
        config.settle(topp=0.5)
    with pytest.raises(UnknownFieldError, match="give it to generate itself"):
        GenerationConfig(streamer=None)
    with pytest.raises(AttributeError, match="'top_k'"):
        _ = config.topk


def test_all_faults_are_one_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        GenerationConfig(max_new_tokens=0, top_p=2, top_k=-1, temperature=float("nan"), early_stopping="nevr", seed="a")
    for name in ("max_new_tokens", "top_p", "top_k", "temperature", "early_stopping", "seed"):
        assert f"- {name}: " in str(caught.value)
    assert "Did you mean 'never'" in str(caught.value)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"num_return_sequences": 2}, "same text 2 times"),
    ({"num_beams": 2, "num_return_sequences": 3}, "raise num_beams"),
    ({"do_sample": True, "temperature": 0.0}, "do_sample=False"),
    ({"min_new_tokens": 4, "max_new_tokens": 3}, "min_new_tokens=4"),
    ({"min_length": 4, "max_length": 3}, "min_length=4"),
    ({"forced_eos_token_id": 3, "suppress_tokens": [3, 4]}, "forced_eos_token_id"),
    ({"penalty_alpha": 0.6}, "does not have"),
    ({"num_beam_groups": 2, "num_beams": 2}, "does not have"),
]


@pytest.mark.parametrize(("settings", "reason"), IMPOSSIBLE)
def test_what_is_impossible_is_an_error(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        GenerationConfig(**settings)
    from_file = GenerationConfig.from_dict(settings)  # a file can be read, so that it can be mended
    with pytest.raises(ConfigurationError, match=reason):
        from_file.settle()


def test_several_impossible_things_are_listed() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)- num_return_sequences=2.*- min_length=4"):
        GenerationConfig(num_return_sequences=2, min_length=4, max_length=3)


def without_effect(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("Without effect")]


INEFFECTIVE: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0.5}, "temperature=0.5, which only counts with do_sample=True"),
    ({"top_k": 5}, "top_k=5, which only counts with do_sample=True"),
    ({"length_penalty": 2.0}, "length_penalty=2.0, which only counts with num_beams above 1"),
    ({"output_scores": True}, "output_scores=True, which needs return_dict_in_generate=True"),
    ({"max_length": 30, "max_new_tokens": 4}, "max_length=30, since max_new_tokens=4 counts instead"),
    ({"cache_implementation": "static"}, "cache_implementation='static'"),
    ({"max_matching_ngram_size": 3}, "prompt_lookup_num_tokens"),
]


@pytest.mark.parametrize(("settings", "said"), INEFFECTIVE)
def test_what_is_without_effect_is_said_once(
    settings: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    GenerationConfig(**settings).settle()
    GenerationConfig(**settings)
    assert len(without_effect(caplog)) == 1 and said in caplog.text


def test_settings_that_have_an_effect_are_not_talked_about(caplog: pytest.LogCaptureFixture) -> None:
    for settings in SETTINGS.values():
        GenerationConfig(**settings).settle()
    GenerationConfig(top_k=50, temperature=1.0, top_p=1.0, length_penalty=1.0, early_stopping=False)
    assert not without_effect(caplog)


def test_a_files_settings_are_talked_about_only_where_the_caller_did_not_choose(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = GenerationConfig.from_dict({"do_sample": True, "temperature": 0.6, "max_length": 100})
    model.settle(do_sample=False, max_new_tokens=3)
    assert not caplog.messages
    GenerationConfig.from_dict({"temperature": 0.6}).settle()
    assert "temperature=0.6" in caplog.text


def test_an_unknown_key_of_a_file_is_kept_and_said_where_it_is_near(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {"max_lenght": 5, "some_map": {"a": 1}, "transformers_version": "4.30.0", "top_k": 3}
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    config = GenerationConfig.from_pretrained(tmp_path)
    GenerationConfig.from_pretrained(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}/generation_config.json: the unknown key 'max_lenght' is kept as it is; is 'max_length' meant?"
    ]
    assert config.extra == {"max_lenght": 5, "some_map": {"a": 1}} and config.some_map == {"a": 1}
    config.some_map = {"b": 2}
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert {key: written[key] for key in content} == {**content, "some_map": {"b": 2}}


def test_wrong_files_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="generation_config"):
        GenerationConfig.from_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"top_k": "many", "max_length": -1}')
    with pytest.raises(ConfigurationError, match=r"(?s)generation_config.json: .*- max_length.*- top_k"):
        GenerationConfig.from_pretrained(tmp_path)
    assert (
        GenerationConfig.from_pretrained(tmp_path, top_k=3, max_length=4).top_k == 3
    )  # what is overridden may be wrong
    (tmp_path / "generation_config.json").write_text("[]")
    with pytest.raises(FileFormatError, match="generation_config"):
        GenerationConfig.from_pretrained(tmp_path)


def test_a_file_of_another_name(tmp_path: Path) -> None:
    GenerationConfig(top_k=3, do_sample=True).save_pretrained(tmp_path, config_file_name="sampling.json")
    assert [path.name for path in tmp_path.iterdir()] == ["sampling.json"]
    for found in (
        GenerationConfig.from_pretrained(tmp_path, "sampling.json"),
        GenerationConfig.from_pretrained(tmp_path / "sampling.json"),
        GenerationConfig.from_json_file(tmp_path / "sampling.json"),
    ):
        assert found.top_k == 3
    config, unused = GenerationConfig.from_pretrained(
        tmp_path, "sampling.json", return_unused_kwargs=True, top_p=0.5, foo=1
    )
    assert (config.top_k, config.top_p, unused) == (3, 0.5, {"foo": 1})


def test_what_the_call_says_counts_before_the_models_file_and_the_defaults() -> None:
    model = GenerationConfig.from_dict({"temperature": 0.6, "do_sample": True, "max_new_tokens": 9, "top_p": 0.5})
    settled = GenerationConfig(top_p=0.8).settle(below=model, temperature=0.7)
    assert (settled.temperature, settled.top_p, settled.do_sample, settled.max_new_tokens) == (0.7, 0.8, True, 9)
    assert (settled.top_k, settled.num_beams) == (50, 1)  # the peer's own defaults
    assert model.settle(max_length=5).max_new_tokens is None
    assert model.settle(max_length=5, max_new_tokens=4).max_new_tokens == 4
    assert GenerationConfig(max_length=5).settle(below=model).max_new_tokens is None
    assert model.top_k is None  # what is settled is a copy


@pytest.mark.parametrize(("least", "most"), [("min_length", "max_length"), ("min_new_tokens", "max_new_tokens")])
def test_a_least_length_of_the_model_is_never_above_the_greatest_of_a_call(least, most, caplog) -> None:
    """As BART's file for summaries has one of 56; what is given itself stays a contradiction."""
    model = GenerationConfig.from_dict({least: 56, most: 142})
    settled = GenerationConfig().settle(below=model, **{most: 9})
    assert (getattr(settled, least), getattr(settled, most)) == (9, 9)
    assert f"{least}=56 of the model is more than {most}=9" in caplog.text
    assert getattr(GenerationConfig().settle(below=model, **{most: 80}), least) == 56
    with pytest.raises(ConfigurationError, match=f"{least}=12 is more than {most}=9 allows"):
        GenerationConfig().settle(below=model, **{least: 12, most: 9})


def test_a_length_that_nobody_gives_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert GenerationConfig().settle().max_new_tokens == 20
    assert "Neither max_new_tokens nor max_length" in caplog.text
    caplog.clear()
    file = GenerationConfig.from_dict({"max_length": 4096})
    assert (file.settle().max_length, file.settle().max_new_tokens) == (4096, None)
    assert not caplog.messages


def test_a_files_words_on_caches_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """Gemma's files name the cache that Transformers is to use."""
    GenerationConfig.from_dict({"cache_implementation": "hybrid", "max_length": 9}).settle()
    assert not caplog.messages


def test_end_tokens_are_what_code_says_or_all_of_them() -> None:
    class Tokenizer:
        eos_token_id = 3

    file, model = GenerationConfig.from_dict({"eos_token_id": [2, 3]}), PretrainedConfig(eos_token_id=5)
    assert file.end_tokens(Tokenizer(), model, None) == (2, 3, 5)
    assert file.settle(eos_token_id=9).end_tokens(Tokenizer(), model) == (9,)
    assert file.settle(eos_token_id=[]).end_tokens(Tokenizer(), model) == ()
    assert GenerationConfig.from_dict({"eos_token_id": -1}).end_tokens() == ()


def test_older_configurations_hold_settings() -> None:
    old = PretrainedConfig(max_length=50, num_beams=4, eos_token_id=2, do_sample=False, output_attentions=True)
    found = GenerationConfig.from_model_config(old)
    assert (found.max_length, found.num_beams, found.eos_token_id) == (50, 4, 2)
    assert found.output_attentions and found.return_dict_in_generate and found.do_sample is None
    nested = {"text_config": {"eos_token_id": 7, "top_k": 3}, "top_k": 4, "pad_token_id": None}
    assert GenerationConfig.from_model_config(nested) == GenerationConfig.from_dict({"eos_token_id": 7, "top_k": 4})


def test_a_watermark_has_settings_of_its_own() -> None:
    config = GenerationConfig(watermarking_config=WatermarkingConfig(bias=3.0), max_length=5)
    assert config == GenerationConfig(watermarking_config=WatermarkingConfig(bias=3.0).to_dict(), max_length=5)
    assert config.watermarking_config["greenlist_ratio"] == 0.25
    with pytest.raises(ConfigurationError, match=r"(?s)seeding_scheme.*greenlist_ratio.*context_width"):
        WatermarkingConfig(seeding_scheme="righthash", greenlist_ratio=1.0, context_width=0)


def test_update_sets_all_or_nothing() -> None:
    config = GenerationConfig(do_sample=True, top_k=3)
    with pytest.raises(ConfigurationError):
        config.update(top_p=0.5, num_beams=2, num_return_sequences=3)
    assert config == GenerationConfig(do_sample=True, top_k=3)
    assert config.update(top_k=9, top_p=0.5, defaults_only=True) == {}
    assert (config.top_k, config.top_p) == (3, 0.5)
    config.update(allow_custom_entries=True, something=3)
    assert config.extra == {"something": 3}


def test_copies_and_equality() -> None:
    config = GenerationConfig(do_sample=True, sequence_bias={(3, 4): -1.0}, extra={"own": [1]})
    for other in (
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        GenerationConfig.from_dict(config.to_dict()),
    ):
        assert other == config
    other.own.append(2)
    assert other != config and config.own == [1]
    assert config.sequence_bias == [([3, 4], -1.0)]
    assert config != GenerationConfig(do_sample=True)
    with pytest.raises(ConfigurationError, match="top_k"):
        GenerationConfig(extra={"top_k": 3})


def test_printing_shows_what_is_set() -> None:
    assert repr(GenerationConfig(max_new_tokens=3)) == 'GenerationConfig {\n  "max_new_tokens": 3\n}'


def test_what_loads_also_saves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Transformers loads this file, and refuses to save what it loaded once anything was changed."""
    content = {"temperature": 0.9, "top_p": 0.6, "max_length": 40}
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    config = GenerationConfig.from_pretrained(tmp_path)
    config.max_length = 50
    config.save_pretrained(tmp_path / "again")
    assert GenerationConfig.from_pretrained(tmp_path / "again").to_diff_dict() == config.to_diff_dict()


def test_a_save_is_tried_in_a_fresh_process_on_request(tmp_path: Path) -> None:
    GenerationConfig(max_new_tokens=3).save_pretrained(tmp_path, verify=True)


def test_settings_bring_no_framework(run_fresh: Any) -> None:
    code = "import sys; from maquette import GenerationConfig as Own; Own(do_sample=True, max_length=9).settle(); "
    heavy = ("torch", "numpy", "huggingface_hub", "tokenizers")
    assert run_fresh(code + f"print([n for n in {heavy} if n in sys.modules])").strip() == "[]"


def test_reports_are_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    GenerationConfig(temperature=0.5, top_k=3)
    assert [(r.levelno, r.name) for r in caplog.records] == [(logging.WARNING, "maquette.generation.configuration")]
    assert caplog.messages[0].startswith("Without effect:\n  - temperature=0.5")
