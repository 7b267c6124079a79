"""Ordinary mistakes end in one traceback: what a library below said is in the message, or adds nothing to it."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

import maquette
from maquette import (
    AutoConfig,
    BatchFeature,
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizer,
    DistilBertTokenizerFast,
    PretrainedConfig,
    TrainingArguments,
    ViTImageProcessor,
    Wav2Vec2FeatureExtractor,
    load_image,
)


class Own(PretrainedConfig):
    model_type = "own-plain"
    dim: Annotated[int, msgspec.Meta(gt=0)] = 3
    path: Path = Path("x")

    def validate(self) -> None:
        if self.dim == 7:
            raise ValueError("not seven")


def put(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def broken_weights(folder: Path) -> Path:
    DistilBertConfig().save_pretrained(folder)
    put(folder, "model.safetensors", b"z" * 60)
    return folder


MISTAKES: dict[str, Callable[[Path], Any]] = {
    "a type": lambda at: Own(dim="a"),
    "a range": lambda at: Own(dim=0),
    "an assignment": lambda at: setattr(Own(), "dim", 0),
    "a rule": lambda at: Own(dim=7),
    "a name": lambda at: Own(dmi=2),
    "a path": lambda at: Own(path=3),
    "a label": lambda at: setattr(Own(), "num_labels", -1),
    "no JSON": lambda at: Own.from_pretrained(put(at, "config.json", b"{")),
    "no folder": lambda at: Own.from_pretrained(at / "none"),
    "no answer": lambda at: Own.from_pretrained("some/name"),
    "no name": lambda at: Own.from_pretrained("a b"),
    "no model type": lambda at: AutoConfig.for_model("distilbrt"),
    "a token twice": lambda at: DistilBertTokenizer(put(at, "vocab.txt", b"a\na")),
    "no vocabulary": lambda at: DistilBertTokenizer(at / "vocab.txt"),
    "no UTF-8": lambda at: DistilBertTokenizer(put(at, "vocab.txt", b"\xff")),
    "no tokenizer": lambda at: DistilBertTokenizerFast(tokenizer_file=put(at, "tokenizer.json", b"{}")),
    "no image": lambda at: load_image(put(at, "x.png", b"xx")),
    "no image file": lambda at: load_image(at / "x.png"),
    "no base64": lambda at: load_image("data:image/png;base64,@@"),
    "no sound": lambda at: Wav2Vec2FeatureExtractor()(str(put(at, "x.wav", b"xx"))),
    "no sound file": lambda at: Wav2Vec2FeatureExtractor()(str(at / "x.wav")),
    "no samples": lambda at: Wav2Vec2FeatureExtractor()([["a"]]),
    "a setting": lambda at: ViTImageProcessor(do_resize="x"),
    "a setting's rule": lambda at: ViTImageProcessor(size={"a": 1}),
    "weights": lambda at: DistilBertModel.from_pretrained(broken_weights(at)),
    "an argument": lambda at: TrainingArguments(learning_rate="x"),
    "an argument set": lambda at: setattr(TrainingArguments(), "max_steps", "x"),
    "a push": lambda at: Own().push_to_hub("a/b"),
    "unequal rows": lambda at: BatchFeature({"a": [[1], [1, 2]]}, tensor_type="np"),
    "a public name": lambda at: maquette.NoSuchName,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_traceback(mistake: str, tmp_path: Path) -> None:
    with pytest.raises((maquette.MaquetteError, AttributeError)) as caught:
        MISTAKES[mistake](tmp_path)
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("Traceback (most recent call last)") == 1, text


def test_what_the_code_of_a_user_raises_keeps_its_traceback() -> None:
    class Fails(PretrainedConfig):
        def __init__(self, dim: int = 3, **kwargs):
            self.dim = {}["no such key"]
            super().__init__(**kwargs)

    with pytest.raises(maquette.ConfigurationError, match="no such key") as caught:
        Fails.from_dict({"dim": 3})
    assert isinstance(caught.value.__cause__, KeyError)
