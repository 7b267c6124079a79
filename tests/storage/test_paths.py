"""Paths as users write them: `~` is the home folder for everything, and a save is a folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maquette import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizer,
    DistilBertTokenizerFast,
    MissingFileError,
    SaveError,
    Trainer,
    TrainingArguments,
    ViTImageProcessor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    get_last_checkpoint,
    load_image,
)
from maquette.storage.paths import FILE_ENDINGS, check_folder_name, user_path

TINY = {"vocab_size": 8, "dim": 4, "n_heads": 2, "n_layers": 1, "hidden_dim": 4, "max_position_embeddings": 8}


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    (tmp_path / "home" / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    letters = {letter: index for index, letter in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", "a"])}
    (tmp_path / "home" / "vocab.json").write_text(json.dumps(letters), encoding="utf-8")


def processor() -> Wav2Vec2Processor:
    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), Wav2Vec2CTCTokenizer("~/vocab.json"))


SAVED: dict[str, tuple[Callable[[], Any], Callable[[str], Any]]] = {
    "configuration": (lambda: DistilBertConfig(**TINY), AutoConfig.from_pretrained),
    "model": (lambda: DistilBertModel(DistilBertConfig(**TINY)), AutoModel.from_pretrained),
    "tokenizer": (lambda: DistilBertTokenizer("~/vocab.txt"), DistilBertTokenizer.from_pretrained),
    "fast tokenizer": (lambda: DistilBertTokenizerFast("~/vocab.txt"), AutoTokenizer.from_pretrained),
    "image processor": (ViTImageProcessor, ViTImageProcessor.from_pretrained),
    "feature extractor": (Wav2Vec2FeatureExtractor, Wav2Vec2FeatureExtractor.from_pretrained),
    "processor": (processor, Wav2Vec2Processor.from_pretrained),
}
everything = pytest.mark.parametrize("kind", SAVED)


@everything
def test_home_is_home_for_saving_and_loading(kind: str, tmp_path: Path) -> None:
    make, load = SAVED[kind]
    make().save_pretrained("~/a/saved")
    assert list((tmp_path / "home" / "a" / "saved").iterdir()) and not list((tmp_path / "work").iterdir())
    assert type(load("~/a/saved")) is type(make())


@everything
@pytest.mark.parametrize("name", ["model.safetensors", "sub/config.json", "a/b/tokenizer.json", "weights.PT"])
def test_a_file_is_no_folder(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"called like a file.*Give the folder") as caught:
        SAVED[kind][0]().save_pretrained(name)
    assert repr(name) in str(caught.value) and not list((tmp_path / "work").iterdir())


def test_names_with_a_dot_and_folders_that_are_there_are_folders(tmp_path: Path) -> None:
    for name in ("v1.0", "model.v2", "resnet-1.5b", ".hidden", "checkpoint.best", "json"):
        DistilBertConfig().save_pretrained(name)
    (tmp_path / "work" / "old.json").mkdir()
    DistilBertConfig().save_pretrained("old.json")
    assert AutoConfig.from_pretrained("old.json") == DistilBertConfig()
    for ending in FILE_ENDINGS:
        with pytest.raises(SaveError, match="such as 'here'"):
            check_folder_name(Path(f"here{ending}"))


def test_files_of_any_name_and_the_cache(tmp_path: Path) -> None:
    home = tmp_path / "home"
    DistilBertConfig(dim=24).to_json_file("~/mine.json")
    assert DistilBertConfig.from_json_file("~/mine.json") == DistilBertConfig.from_pretrained("~/mine.json")
    ViTImageProcessor(do_resize=False).to_json_file("~/own.json")
    assert ViTImageProcessor.from_json_file("~/own.json").do_resize is False
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(home / "dot.png")
    assert load_image("~/dot.png").size == (3, 2)
    DistilBertTokenizerFast("~/vocab.txt").save_pretrained("~/fast")
    assert DistilBertTokenizerFast(tokenizer_file="~/fast/tokenizer.json")("a")["input_ids"] == [2, 5, 3]
    with pytest.raises(MissingFileError, match="cache"):
        AutoConfig.from_pretrained("some/name", cache_dir="~/cache", local_files_only=True)
    assert not list((tmp_path / "work").iterdir())


def test_a_run_writes_at_home(tmp_path: Path) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x, labels):
            return {"loss": ((self.layer(x)[:, 0] - labels) ** 2).mean()}

    rows = [{"x": [float(index), 1.0], "labels": 0.0} for index in range(4)]
    arguments = TrainingArguments("~/run", max_steps=2, save_steps=2, disable_tqdm=True)
    assert arguments.output_dir == str(tmp_path / "home" / "run")
    arguments.output_dir = "~/other"
    Trainer(Model(), arguments, train_dataset=rows).train()
    last = get_last_checkpoint("~/other")
    assert last == str(tmp_path / "home" / "other" / "checkpoint-2") and not list((tmp_path / "work").iterdir())
    trainer = Trainer(Model(), TrainingArguments("~/other", max_steps=3, disable_tqdm=True), train_dataset=rows)
    assert trainer.train(resume_from_checkpoint="~/other/checkpoint-2").global_step == 3
    trainer.save_model("~/final")
    assert list((tmp_path / "home" / "final").iterdir()) and not list((tmp_path / "work").iterdir())


def test_a_home_that_nobody_has() -> None:
    for use in (user_path, DistilBertConfig().save_pretrained, DistilBertConfig.from_pretrained, TrainingArguments):
        with pytest.raises(MissingFileError, match="no user 'nobody-of-that-name' is known here") as caught:
            use("~nobody-of-that-name/x")
        assert caught.value.__suppress_context__
