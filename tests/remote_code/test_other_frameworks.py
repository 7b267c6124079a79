"""A save into a folder with code of several frameworks keeps the entries of the others, where their code stays."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

CODE = """
from maquette import PretrainedConfig, PreTrainedModel
import torch

class WaveConfig(PretrainedConfig):
    model_type = "wave_of_three"

class Wave(PreTrainedModel):
    config_class = WaveConfig
    def __init__(self, config):
        super().__init__(config)
        self.hear = torch.nn.Linear(2, 2)

WaveConfig.register_for_auto_class()
Wave.register_for_auto_class("AutoModel")
"""


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (
            {"TFAutoModel": "modeling_tf_wave.TFWave", "AutoModel": "old.Wave"},
            {"TFAutoModel": "modeling_tf_wave.TFWave"},
        ),
        ({"TFAutoModel": "gone.TFWave", "FlaxAutoModel": ["odd"]}, {}),
    ],
)
def test_entries_whose_code_stays_are_kept(
    before: dict[str, Any], kept: dict[str, Any], tmp_path: Path, run_fresh
) -> None:
    place = tmp_path / "saved"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "wave_of_three", "auto_map": before}))
    (place / "modeling_tf_wave.py").write_text("class TFWave: ...\n")
    (tmp_path / "modeling_wave.py").write_text(CODE)
    save = (
        'import sys; sys.path.insert(0, ".")\nfrom modeling_wave import *\nWave(WaveConfig()).save_pretrained("saved")'
    )
    run_fresh(textwrap.dedent(save))
    written = json.loads((place / "config.json").read_text())["auto_map"]
    own = {"AutoConfig": "modeling_wave.WaveConfig", "AutoModel": "modeling_wave.Wave"}
    assert written == own | kept
    assert (place / "modeling_tf_wave.py").is_file()


def test_the_map_of_another_model_is_not_kept(tmp_path: Path, run_fresh) -> None:
    place = tmp_path / "saved"
    place.mkdir()
    (place / "config.json").write_text('{"model_type": "other", "auto_map": {"TFAutoModel": "modeling_tf.TFOther"}}')
    (place / "modeling_tf.py").write_text("class TFOther: ...\n")
    (tmp_path / "modeling_wave.py").write_text(CODE)
    run_fresh(
        'import sys; sys.path.insert(0, ".")\nfrom modeling_wave import *\nWave(WaveConfig()).save_pretrained("saved")'
    )
    assert "TFAutoModel" not in json.loads((place / "config.json").read_text())["auto_map"]
