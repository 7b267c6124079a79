"""Settings of preprocessing classes: checked, printed, saved, found again; custom classes as well as built-in ones."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from msgspec import Meta

from maquette import AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoProcessor, PretrainedConfig
from maquette.errors import ConfigurationError, UnknownFieldError, UnknownNameError, UntrustedCodeError
from maquette.processing.settings import PreprocessingMixin


class Loudness(PreprocessingMixin):
    """Declares its settings."""

    _section = "feature_extractor"
    _quiet: ClassVar[frozenset[str]] = frozenset({"floor"})
    gain: Annotated[float, Meta(gt=0)] = 1.0
    bands: list[int] = [1, 2]  # noqa: RUF012 - a setting's default: every instance gets its own
    floor: float | None = None

    def validate(self) -> None:
        if self.floor is not None and self.floor > self.gain:
            raise ValueError("the floor lies above the gain")


class Written(PreprocessingMixin):
    """Writes its constructor by hand."""

    _section = "image_processor"
    size: int = 3

    def __init__(self, patch: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patch = patch
        self.area = patch**2


class SoundConfig(PretrainedConfig):
    model_type = "sound-for-tests"
    width: int = 2


def test_defaults_are_no_shared_objects() -> None:
    first, second = Loudness(), Loudness()
    first.bands.append(3)
    assert second.bands == Loudness().bands == [1, 2]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"gian": 2.0}, "Loudness has no setting 'gian'. Did you mean 'gain'?"),
        ({"gain": "loud"}, "gain"),
        ({"gain": -1.0}, "gain"),
        ({"floor": 3.0}, "the floor lies above the gain"),
    ],
)
def test_wrong_settings_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        Loudness(**kwargs)


def test_wrong_assignments_change_nothing() -> None:
    sound = Loudness(gain=2.0)
    with pytest.raises(ConfigurationError):
        sound.floor = 3.0
    with pytest.raises(UnknownFieldError, match="'gain'"):
        sound.gian = 3.0
    assert sound == Loudness(gain=2.0)
    written = Written()
    written.patch = 5
    assert written.to_dict() == {"image_processor_type": "Written", "patch": 5, "size": 3}


def test_print_is_the_file_without_what_is_quiet() -> None:
    assert str(Loudness()) == (
        'Loudness {\n  "bands": [\n    1,\n    2\n  ],\n  "feature_extractor_type": "Loudness",\n  "gain": 1.0\n}'
    )
    assert '"floor": 0.5' in str(Loudness(floor=0.5))


def test_unknown_keys_of_a_file_are_kept_and_near_ones_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {"gain": 2.0, "gains": 3, "colour": "red", "feature_extractor_type": "Loudness", "processor_class": "P"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    sound = Loudness.from_pretrained(tmp_path, floor=0.5)
    assert "'gains' is kept as it is; is 'gain' meant?" in caplog.text
    assert (sound.gain, sound.floor, sound.colour) == (2.0, 0.5, "red")
    sound.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())
    assert saved == {**content, "bands": [1, 2], "floor": 0.5}


def test_overrides_are_checked_as_code_is(tmp_path: Path) -> None:
    Loudness(gain=2.0).save_pretrained(tmp_path)
    with pytest.raises(UnknownFieldError, match="'gain'"):
        Loudness.from_pretrained(tmp_path, gian=1.0)
    made, unused = Loudness.from_pretrained(tmp_path, gian=1.0, return_unused_kwargs=True)
    assert (made.gain, unused) == (2.0, {"gian": 1.0})


def test_a_file_with_a_wrong_value_is_named(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"gain": "loud"}')
    with pytest.raises(ConfigurationError, match=r"preprocessor_config\.json: .*gain"):
        Loudness.from_pretrained(tmp_path)


def test_a_constructor_that_forgets_an_argument_is_told() -> None:
    class Forgets(PreprocessingMixin):
        _section = "image_processor"

        def __init__(self, patch: int = 4, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    with pytest.raises(ConfigurationError, match=r"takes patch .* self\.patch = patch"):
        Forgets()


def test_sections_of_a_processor_file_are_read(tmp_path: Path) -> None:
    parts = {"image_processor": {"size": 5, "patch": 2}, "feature_extractor": {"gain": 3.0}, "processor_class": "P"}
    (tmp_path / "processor_config.json").write_text(json.dumps(parts))
    assert Written.from_pretrained(tmp_path) == Written(size=5, patch=2)
    assert Loudness.from_pretrained(tmp_path) == Loudness(gain=3.0)


def test_registered_classes_are_found_by_configuration_and_by_name(tmp_path: Path) -> None:
    AutoConfig.register("sound-for-tests", SoundConfig, exist_ok=True)
    AutoFeatureExtractor.register(SoundConfig, Loudness, exist_ok=True)
    AutoImageProcessor.register(SoundConfig, Written, exist_ok=True)
    AutoProcessor.register(SoundConfig, Loudness, exist_ok=True)
    Loudness(gain=4.0).save_pretrained(tmp_path)
    assert AutoFeatureExtractor.from_pretrained(tmp_path) == Loudness(gain=4.0)  # by the name in the file
    SoundConfig().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "preprocessor_config.json").read_text())
    del content["feature_extractor_type"]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    assert AutoFeatureExtractor.from_pretrained(tmp_path, floor=1.0) == Loudness(gain=4.0, floor=1.0)
    assert AutoProcessor.from_pretrained(tmp_path) == Loudness(gain=4.0)


def test_an_unknown_class_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "NobodysImageProcessor"}')
    with pytest.raises(UnknownNameError, match="NobodysImageProcessor"):
        AutoImageProcessor.from_pretrained(tmp_path)
    with pytest.raises(TypeError, match=r"AutoImageProcessor\.from_pretrained"):
        AutoImageProcessor()


CODE = """
from maquette.processing.settings import PreprocessingMixin

class Sharpener(PreprocessingMixin):
    _section = "image_processor"
    radius: int = 2

Sharpener.register_for_auto_class("AutoImageProcessor")
"""


def test_code_of_a_custom_class_travels_and_needs_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_fresh: Any
) -> None:
    (tmp_path / "sharpener_for_tests.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    from sharpener_for_tests import Sharpener

    Sharpener(radius=7).save_pretrained(tmp_path / "saved")
    sys.modules.pop("sharpener_for_tests")
    saved = json.loads((tmp_path / "saved" / "preprocessor_config.json").read_text())
    assert saved["auto_map"] == {"AutoImageProcessor": "sharpener_for_tests.Sharpener"}
    code = (
        "from maquette import AutoImageProcessor\n"
        f"print(AutoImageProcessor.from_pretrained({str(tmp_path / 'saved')!r}, trust_remote_code=True).radius)"
    )
    assert run_fresh(code) == "7\n"
    with pytest.raises(UntrustedCodeError):
        AutoImageProcessor.from_pretrained(tmp_path / "saved")


def test_a_part_saved_into_a_processors_folder_is_what_is_loaded(tmp_path: Path) -> None:
    parts = {"image_processor": {"size": 5}, "feature_extractor": {"gain": 3.0}, "processor_class": "P"}
    (tmp_path / "processor_config.json").write_text(json.dumps(parts))
    Loudness(gain=7.0).save_pretrained(tmp_path)
    assert Loudness.from_pretrained(tmp_path) == Loudness(gain=7.0)
    assert Written.from_pretrained(tmp_path) == Written(size=5)
