"""Code that is saved here loads through transformers' AutoClasses, where maquette is installed too."""

import os
import subprocess
import sys
from pathlib import Path

from maquette import PretrainedConfig

SOURCE = str(Path(sys.modules[PretrainedConfig.__module__].__file__ or "").parents[2])
CONFIGURATION = """
from maquette import PretrainedConfig

class PartConfig(PretrainedConfig):
    model_type = "there-part"
    width: int = 3

class ThereConfig(PretrainedConfig):
    model_type = "there"
    aliases = {"hidden_size": "dim"}
    dim: int = 8
    part: PartConfig = PartConfig()
"""
MODELING = """
import torch
from torch import nn
from maquette import BaseModelOutput, PreTrainedModel, SequenceClassifierOutput
from .configuration import ThereConfig

class ThereModel(PreTrainedModel):
    config_class = ThereConfig
    base_model_prefix = "there"
    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(20, config.dim)
        self.norm = nn.BatchNorm1d(config.dim)
        self.out = nn.Linear(config.dim, config.part.width)
        self.register_buffer("table", torch.arange(config.dim) / 7, persistent=False)
    def forward(self, input_ids, attention_mask=None):
        mixed = self.norm((self.embed(input_ids) + self.table).transpose(1, 2)).transpose(1, 2)
        return BaseModelOutput(last_hidden_state=self.out(mixed))

class ThereForSequenceClassification(PreTrainedModel):
    config_class = ThereConfig
    base_model_prefix = "there"
    def __init__(self, config):
        super().__init__(config)
        self.there = ThereModel(config)
        self.classifier = nn.Linear(config.part.width, config.num_labels)
    def forward(self, input_ids, attention_mask=None):
        return SequenceClassifierOutput(logits=self.classifier(self.there(input_ids)[0].mean(1)))
"""
SAVE = """
import torch
from own.configuration import ThereConfig
from own.modeling import ThereForSequenceClassification, ThereModel

ThereConfig.register_for_auto_class()
ThereModel.register_for_auto_class("AutoModel")
ThereForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
torch.manual_seed(0)
model = ThereForSequenceClassification(ThereConfig(dim=16, part={"width": 5}, num_labels=3)).eval()
model.there.norm.running_mean.normal_()
model.save_pretrained("saved")
ids = torch.arange(12).reshape(3, 4)
torch.save((ids, model(ids).logits, model.there(ids).last_hidden_state), "seen.pt")
"""
LOAD = """
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

ids, logits, states = torch.load("seen.pt")
config = AutoConfig.from_pretrained("saved", trust_remote_code=True)
assert (config.dim, config.hidden_size, config.part.width, config.name_or_path) == (16, 16, 5, "saved")
assert {name: kind.__name__ for name, kind in config.sub_configs.items()} == {"part": "PartConfig"}
model = AutoModelForSequenceClassification.from_pretrained("saved", trust_remote_code=True)
assert not model.training and torch.equal(model(ids).logits, logits)
assert torch.equal(AutoModel.from_pretrained("saved", trust_remote_code=True)(ids)[0], states)
again = AutoModel.from_pretrained("saved", config=config, trust_remote_code=True, dtype=torch.bfloat16)
assert again.dtype == torch.bfloat16 and again.config.dim == 16
fresh = AutoModelForSequenceClassification.from_config(config, trust_remote_code=True)
assert type(fresh).__name__ == "ThereForSequenceClassification"
model.save_pretrained("again")
assert torch.equal(AutoModelForSequenceClassification.from_pretrained("again", trust_remote_code=True)(ids)[0], logits)
"""


def test_transformers_loads_it_bit_for_bit(tmp_path: Path, run_fresh, peer_python: str) -> None:
    (tmp_path / "own").mkdir()
    files = {"__init__.py": "", "configuration.py": CONFIGURATION, "modeling.py": MODELING}
    for name, text in files.items():
        (tmp_path / "own" / name).write_text(text, encoding="utf-8")
    run_fresh(SAVE)
    environ = {**os.environ, "PYTHONPATH": SOURCE, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run([peer_python, "-c", LOAD], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
