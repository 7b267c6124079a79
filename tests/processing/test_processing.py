"""Processors: parts that are declared and checked, called with their data, saved and loaded as one folder."""

import base64
import copy
import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import CLIPS, RATE, Frames, FramesConfig
from loopback_hub import LoopbackHub
from PIL import Image

from maquette import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoProcessor,
    DistilBertTokenizer,
    DistilBertTokenizerFast,
    PretrainedConfig,
    ViTImageProcessor,
)
from maquette.errors import (
    ConfigurationError,
    FileFormatError,
    InputError,
    MissingFileError,
    SaveError,
    UnknownFieldError,
    UntrustedCodeError,
)
from maquette.models.wav2vec2.feature_extraction import Wav2Vec2FeatureExtractor
from maquette.models.wav2vec2.processing import Wav2Vec2Processor
from maquette.models.wav2vec2.tokenization import Wav2Vec2CTCTokenizer
from maquette.processing.processor import ProcessorMixin
from maquette.text.tokenization_base import PreTrainedTokenizerBase

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog"]
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefgh"]


@pytest.fixture
def words(tmp_path: Path) -> DistilBertTokenizer:
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    return DistilBertTokenizer(vocab_file=str(tmp_path / "words.txt"))


@pytest.fixture
def speech(tmp_path: Path) -> Wav2Vec2Processor:
    (tmp_path / "letters.txt").write_text("\n".join(LETTERS))
    tokenizer = Wav2Vec2CTCTokenizer(vocab_file=str(tmp_path / "letters.txt"))
    return Wav2Vec2Processor(feature_extractor=Wav2Vec2FeatureExtractor(padding_value=1.0), tokenizer=tokenizer)


# Declaring parts ---------------------------------------------------------------------------------------------------


class Annotated(ProcessorMixin):
    feature_extractor: Frames
    tokenizer: PreTrainedTokenizerBase
    greeting: str = "hello"
    counts: list[int] = [1]  # noqa: RUF012 - a setting's default


class Named(ProcessorMixin):
    attributes = ["feature_extractor", "tokenizer"]  # noqa: RUF012
    feature_extractor_class = "Frames"
    tokenizer_class = ("DistilBertTokenizer", "DistilBertTokenizerFast")


class Hinted(ProcessorMixin):
    feature_extractor_class = "AutoFeatureExtractor"
    tokenizer_class = "AutoTokenizer"


class Written(ProcessorMixin):
    def __init__(self, feature_extractor: Any = None, tokenizer: Any = None, patches: int = 4, chat_template=None):
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)
        self.patches = patches


KINDS = [Annotated, Named, Hinted, Written]


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    AutoConfig.register("frames-for-tests", FramesConfig, exist_ok=True)
    AutoFeatureExtractor.register(FramesConfig, Frames, exist_ok=True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_way_to_declare_parts_saves_and_loads(kind: Any, words: DistilBertTokenizer, tmp_path: Path) -> None:
    processor = kind(feature_extractor=Frames(stretch=50), tokenizer=words)
    assert kind.get_attributes() == ["feature_extractor", "tokenizer"]
    assert kind(processor.feature_extractor, words).tokenizer is words
    processor.save_pretrained(tmp_path / "saved")
    again = kind.from_pretrained(tmp_path / "saved")
    assert again.feature_extractor == processor.feature_extractor
    assert again.tokenizer("a cat").input_ids == [2, 5, 6, 3]
    assert json.loads((tmp_path / "saved/processor_config.json").read_text())["processor_class"] == kind.__name__


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_parts_of_a_wrong_kind_are_named(kind: Any, words: DistilBertTokenizer) -> None:
    with pytest.raises(InputError, match=r"feature_extractor must be .*, not DistilBertTokenizer, a tokenizer"):
        kind(words, Frames())
    with pytest.raises(InputError, match=r"tokenizer must be .*, not str"):
        kind(Frames(), "words.txt")
    processor = kind(Frames(), words)
    with pytest.raises(InputError, match="tokenizer must be"):
        processor.tokenizer = Frames()
    assert processor.tokenizer is words


def test_parts_of_a_wrong_class_are_named(words: DistilBertTokenizer, speech: Wav2Vec2Processor) -> None:
    with pytest.raises(InputError, match="feature_extractor must be Frames, not Wav2Vec2FeatureExtractor, a feature"):
        Annotated(Wav2Vec2FeatureExtractor(), words)
    with pytest.raises(InputError, match="tokenizer must be DistilBertTokenizer or DistilBertTokenizerFast, not Wav"):
        Named(Frames(), speech.tokenizer)
    fast = DistilBertTokenizerFast.from_slow(words)
    assert Named(Frames(), fast).tokenizer is fast


def test_constructors_name_what_is_missing_unknown_or_double(words: DistilBertTokenizer) -> None:
    with pytest.raises(ConfigurationError, match=r"Annotated needs tokenizer\. Its parts are: feature_ext"):
        Annotated(Frames())
    with pytest.raises(UnknownFieldError, match=r"'tokeniser'\. Did you mean 'tokenizer'"):
        Annotated(Frames(), tokeniser=words)
    with pytest.raises(ConfigurationError, match="tokenizer twice"):
        Annotated(Frames(), words, tokenizer=words)
    with pytest.raises(ConfigurationError, match="takes 2 parts, not 3"):
        Annotated(Frames(), words, words)
    with pytest.raises(ConfigurationError, match="greeting"):
        Annotated(Frames(), words, greeting=3)

    class Partless(ProcessorMixin):
        pass

    with pytest.raises(ConfigurationError, match="Partless has no parts"):
        Partless()

    class Misnamed(ProcessorMixin):
        attributes = ["reader"]  # noqa: RUF012

    with pytest.raises(ConfigurationError, match="'reader' must have a name that ends in tokenizer"):
        Misnamed(words)


def test_settings_of_a_processor_are_saved(words: DistilBertTokenizer, tmp_path: Path) -> None:
    annotated = Annotated(Frames(), words, greeting="hi")
    annotated.counts.append(2)
    annotated.save_pretrained(tmp_path / "a")
    again = Annotated.from_pretrained(tmp_path / "a", stretch=70)
    assert (again.greeting, again.counts, again.feature_extractor.stretch) == ("hi", [1, 2], 70)
    assert Annotated.from_pretrained(tmp_path / "a", greeting="ho").greeting == "ho"
    assert Annotated(Frames(), words).counts == [1]
    written = Written(Frames(), words, patches=7, chat_template="{{ messages }}")
    written.save_pretrained(tmp_path / "w")
    again = Written.from_pretrained(tmp_path / "w")
    assert (again.patches, again.chat_template) == (7, "{{ messages }}")
    with pytest.raises(UnknownFieldError, match=r"setting 'strech'\. Did you mean 'stretch'"):
        Written.from_pretrained(tmp_path / "w", strech=3)


def test_conversations_go_by_the_processors_template_or_the_tokenizers(
    words: DistilBertTokenizer, tmp_path: Path
) -> None:
    talk = [{"role": "user", "content": "a cat"}]
    named = {"default": "{{ messages[0].content }}", "loud": "{{ messages[0].content | upper }}"}
    Annotated(Frames(), words, chat_template=named).save_pretrained(tmp_path / "a")
    again = Annotated.from_pretrained(tmp_path / "a")
    assert again.chat_template == named
    assert again.apply_chat_template(talk) == "a cat"
    assert again.apply_chat_template(talk, chat_template="loud") == "A CAT"
    assert again.apply_chat_template(talk, tokenize=True) == words("a cat", add_special_tokens=False).input_ids
    old = tmp_path / "a" / "chat_template.json"
    (tmp_path / "a" / "chat_template.jinja").unlink()
    (tmp_path / "a" / "additional_chat_templates" / "loud.jinja").unlink()
    old.write_text(json.dumps({"chat_template": "old: {{ messages[0].content }}"}))
    again = Annotated.from_pretrained(tmp_path / "a")
    assert again.apply_chat_template(talk) == "old: a cat"
    again.save_pretrained(tmp_path / "a")
    assert not old.exists()
    assert Annotated.from_pretrained(tmp_path / "a").chat_template == "old: {{ messages[0].content }}"
    words.chat_template = "{{ messages | length }}"
    try:
        assert Annotated(Frames(), words).apply_chat_template(talk) == "1"
    finally:
        words.chat_template = None
    seen = [{"role": "user", "content": [{"type": "image", "url": "x.png"}, {"type": "text", "text": "a cat"}]}]
    template = "{% for part in messages[0].content %}{{ part.text or '<image>' }}{% endfor %}"
    assert again.apply_chat_template(seen, template) == "<image>a cat"
    with pytest.raises(InputError, match="holds 'video' data"):
        again.apply_chat_template([{"role": "user", "content": [{"type": "video"}]}], template, tokenize=True)


class Sees(ProcessorMixin):
    image_processor: ViTImageProcessor
    tokenizer: PreTrainedTokenizerBase


TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}{{ part.text or '[MASK] ' }}{% endfor %}{% endfor %}"
)


def test_images_of_messages_are_loaded(words: DistilBertTokenizer, tmp_path: Path) -> None:
    """From a path, an address that is data, base64 and objects, in the order of the messages."""
    images = [Image.new("RGB", (6, 4), color) for color in ("red", "green", "blue", "black")]
    images[0].save(tmp_path / "red.png")
    coded = [base64.b64encode(_png(image)).decode() for image in images]
    blocks = [
        {"type": "image", "path": str(tmp_path / "red.png")},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{coded[1]}"}},
        {"type": "image", "base64": coded[2]},
        {"type": "image", "image": images[3]},
    ]
    sees = Sees(ViTImageProcessor(size={"height": 4, "width": 4}), words, chat_template=TEMPLATE)
    talk = [
        {"role": "user", "content": [*blocks[:2], {"type": "text", "text": "a cat"}]},
        {"role": "user", "content": blocks[2:]},
    ]
    text = "[MASK] [MASK] a cat[MASK] [MASK] "
    assert sees.apply_chat_template(talk) == text
    found = sees.apply_chat_template(talk, tokenize=True, return_tensors="np")
    expected = sees(text=text, images=images, return_tensors="np")
    assert found.keys() == expected.keys() and "pixel_values" in found
    assert all((found[name] == expected[name]).all() for name in expected)
    assert sees.apply_chat_template(talk, tokenize=True, return_dict=False) == words(text).input_ids
    several = [talk, [{"role": "user", "content": [blocks[3], {"type": "text", "text": "dog"}]}]]
    batch = sees.apply_chat_template(several, tokenize=True, padding=True, return_tensors="np")
    assert batch["pixel_values"].shape == (5, 3, 4, 4) and batch["input_ids"].shape[0] == 2
    begins = sees.apply_chat_template(talk, "{{ '[CLS] a' }}", tokenize=True, processor_kwargs={"text_kwargs": {}})
    assert begins["input_ids"] == words("[CLS] a").input_ids  # no begin token has a name here
    with pytest.raises(InputError, match="has no data: give it under image or url"):
        sees.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}], tokenize=True)
    with pytest.raises(InputError, match="goes with texts only"):
        sees.apply_chat_template(talk, tokenize=True, sanitize_control_tokens=True)


def test_sounds_of_messages_are_arrays(words: DistilBertTokenizer) -> None:
    hears = Annotated(Frames(), words, chat_template=TEMPLATE)
    talk = [{"role": "user", "content": [{"type": "audio", "audio": CLIPS[0]}, {"type": "text", "text": "a dog"}]}]
    given = {"audio_kwargs": {"sampling_rate": RATE}, "return_tensors": "np"}
    found = hears.apply_chat_template(talk, tokenize=True, text_kwargs={"return_attention_mask": False}, **given)
    expected = hears(text="[MASK] a dog", audio=[CLIPS[0]], text_kwargs={"return_attention_mask": False}, **given)
    assert found.keys() == expected.keys() and all((found[name] == expected[name]).all() for name in expected)
    talk[0]["content"][0]["audio"] = "clip.wav"
    with pytest.raises(InputError, match="read the file first"):
        hears.apply_chat_template(talk, tokenize=True)


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_what_cannot_be_saved_is_named(words: DistilBertTokenizer, tmp_path: Path) -> None:
    class Forgets(ProcessorMixin):
        def __init__(self, tokenizer: Any, patches: int = 4) -> None:
            super().__init__(tokenizer)

    with pytest.raises(SaveError, match=r"takes patches .*self\.patches = patches"):
        Forgets(words).save_pretrained(tmp_path / "f")

    class Holds(ProcessorMixin):
        def __init__(self, tokenizer: Any, thing: Any = None) -> None:
            super().__init__(tokenizer)
            self.thing = thing

    with pytest.raises(SaveError, match="'thing' is a object"):
        Holds(words, object()).save_pretrained(tmp_path / "h")
    assert not (tmp_path / "h").exists()


def test_a_part_may_be_left_out_where_the_class_says_so(words: DistilBertTokenizer, tmp_path: Path) -> None:
    processor = Written(tokenizer=words)
    processor.save_pretrained(tmp_path / "saved")
    again = Written.from_pretrained(tmp_path / "saved")
    assert again.feature_extractor is None
    assert again(text="a cat").input_ids == [2, 5, 6, 3]
    with pytest.raises(InputError, match="has no feature_extractor, so it cannot take audio"):
        again(audio=CLIPS[0])


class Doubled(ProcessorMixin):
    attributes = ["tokenizer", "second_tokenizer", "feature_extractor", "second_feature_extractor"]  # noqa: RUF012


def test_second_parts_have_places_of_their_own(
    words: DistilBertTokenizer, speech: Wav2Vec2Processor, tmp_path: Path
) -> None:
    Doubled(words, speech.tokenizer, Frames(stretch=20), speech.feature_extractor).save_pretrained(tmp_path / "saved")
    again = Doubled.from_pretrained(tmp_path / "saved")
    assert again.second_tokenizer("ab").input_ids == [5, 6]
    assert again.tokenizer("a cat").input_ids == [2, 5, 6, 3]
    assert (again.feature_extractor, again.second_feature_extractor) == (Frames(stretch=20), speech.feature_extractor)
    assert again(text="a").input_ids == [2, 5, 3]
    for path in (tmp_path / "saved/second_tokenizer").iterdir():
        path.unlink()
    with pytest.raises(MissingFileError, match="no folder 'second_tokenizer'"):
        Doubled.from_pretrained(tmp_path / "saved")


# The call ----------------------------------------------------------------------------------------------------------


def test_each_part_gets_its_data(words: DistilBertTokenizer) -> None:
    processor = Annotated(Frames(), words)
    batch = processor(
        text=["a cat", "dog"],
        audio=CLIPS[:2],
        sampling_rate=RATE,
        padding=True,
        return_tensors="np",
        audio_kwargs={"return_attention_mask": False},
    )
    assert list(batch) == ["input_ids", "attention_mask", "input_features"]
    assert batch.input_ids.tolist() == [[2, 5, 6, 3], [2, 7, 3, 0]]
    assert batch.input_features.shape == (2, 10, 3)
    assert processor(text="dog", sampling_rate=RATE).input_ids == [2, 7, 3]
    assert processor.model_input_names == ["input_features", "attention_mask", "input_ids"]


def test_values_of_one_name_from_two_parts_are_refused(words: DistilBertTokenizer) -> None:
    with pytest.raises(InputError, match="gives 'attention_mask', and another part gave it before"):
        Annotated(Frames(), words)(text=["dog"], audio=CLIPS[:1], sampling_rate=RATE, return_tensors="np")


def test_labels_come_from_texts(speech: Wav2Vec2Processor) -> None:
    batch = speech(CLIPS[:2], text=["abc", "a"], sampling_rate=RATE, padding=True, return_tensors="np")
    assert list(batch) == ["input_values", "labels"]
    assert batch.labels.tolist() == [[5, 6, 7], [5, 0, 0]]
    expected = speech.feature_extractor(CLIPS[:2], True, sampling_rate=RATE, return_tensors="np").input_values
    assert np.array_equal(batch.input_values, expected)
    assert list(speech(CLIPS[0], sampling_rate=RATE)) == ["input_values"]
    assert speech(text="ab").input_ids == [5, 6]
    assert speech.model_input_names == ["input_values", "attention_mask", "labels"]


def test_pad_collates_features_and_labels(speech: Wav2Vec2Processor) -> None:
    features = [{"input_values": clip} for clip in CLIPS[:2]]
    labels = [{"input_ids": [5, 6, 7]}, {"input_ids": [5]}]
    batch = speech.pad(features, labels=labels, padding=True, return_tensors="np")
    assert batch.input_values.shape == (2, 1000)
    assert (batch.input_values[0, 400:] == 1).all()
    assert batch.labels.tolist() == [[5, 6, 7], [5, 0, 0]]
    only = speech.pad(labels=labels, padding=True, return_tensors="np")
    assert only.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert list(speech.pad(input_features=features)) == ["input_values"]
    lengths = {"padding": "max_length", "audio_kwargs": {"max_length": 1200}, "text_kwargs": {"max_length": 4}}
    batch = speech.pad(features, labels=labels, return_tensors="np", **lengths)
    assert (batch.input_values.shape, batch.labels.shape) == ((2, 1200), (2, 4))


def test_decoding_is_the_tokenizers(speech: Wav2Vec2Processor) -> None:
    ids = [[5, 5, 0, 5, 4, 6], [7, 0, 0, 0, 0, 0]]
    assert speech.batch_decode(ids) == ["aa b", "c"]
    assert speech.decode(ids[0]) == "aa b"

    class Deaf(ProcessorMixin):
        feature_extractor: Frames

    with pytest.raises(InputError, match="has no tokenizer, so it cannot decode"):
        Deaf(Frames()).decode([1])


def test_calls_name_what_no_part_takes(speech: Wav2Vec2Processor) -> None:
    with pytest.raises(UnknownFieldError) as caught:
        speech(CLIPS[0], sampling_rte=RATE)
    message = str(caught.value)
    assert "takes no 'sampling_rte'. Did you mean 'sampling_rate'?" in message
    assert "- feature_extractor takes max_length, mono, " in message
    assert "- tokenizer takes add_special_tokens, " in message
    with pytest.raises(UnknownFieldError, match=r"pad\(\) takes no 'paddding'. Did you mean 'padding'"):
        speech.pad([{"input_values": CLIPS[0]}], paddding=True)
    for call in (speech, speech.pad):
        with pytest.raises(InputError, match="given nothing"):
            call()


def test_a_length_that_could_count_two_things_is_not_guessed(speech: Wav2Vec2Processor) -> None:
    with pytest.raises(InputError, match=r"text_kwargs=\{'max_length': 3\} or audio_kwargs=\{'max_length': 3\}"):
        speech(CLIPS[0], text="ab", sampling_rate=RATE, max_length=3)
    batch = speech(
        CLIPS[2],
        text="abcd",
        sampling_rate=RATE,
        truncation=True,
        max_length=2,
        audio_kwargs={"max_length": 500, "truncation": True},
    )
    assert (len(batch.input_values[0]), batch.labels) == (500, [5, 6])
    assert len(speech(CLIPS[0], sampling_rate=RATE, max_length=30, truncation=True).input_values[0]) == 30


def test_a_part_that_takes_any_keyword_gets_what_the_others_do_not_know(words: DistilBertTokenizer) -> None:
    class Open(Frames):
        def __call__(self, audio: Any, **options: Any) -> Any:
            return {"seen": sorted(options)}

    class Loose(ProcessorMixin):
        feature_extractor: Open
        tokenizer: PreTrainedTokenizerBase

    loose = Loose(Open(), words)
    assert loose(audio=CLIPS[0], window=3, return_tensors="np") == {"seen": ["window"]}
    assert loose(audio=CLIPS[0], audio_kwargs={"return_tensors": "np"}) == {"seen": ["return_tensors"]}


def test_images_and_texts(words: DistilBertTokenizer, tmp_path: Path) -> None:
    from maquette.models.vit.image_processing import ViTImageProcessor

    class Captioner(ProcessorMixin):
        image_processor: ViTImageProcessor
        tokenizer: PreTrainedTokenizerBase

    image = np.full((3, 5, 5), 255, np.uint8)
    processor = Captioner(ViTImageProcessor(do_resize=False), words)
    batch = processor(image, ["a cat"], padding=True, return_tensors="np", do_normalize=False)
    assert list(batch) == ["input_ids", "attention_mask", "pixel_values"]
    assert np.array_equal(batch.pixel_values, np.ones((1, 3, 5, 5), np.float32))
    with pytest.raises(UnknownFieldError, match=r"takes no 'do_normalise'\. Did you mean 'do_normalize'"):
        processor(image, "dog", do_normalise=False)
    processor.save_pretrained(tmp_path / "saved")
    again = Captioner.from_pretrained(tmp_path / "saved", do_rescale=False)
    assert (again.image_processor.do_resize, again.image_processor.do_rescale) == (False, False)


# Folders -----------------------------------------------------------------------------------------------------------


def test_printing_shows_the_parts(speech: Wav2Vec2Processor) -> None:
    text = str(speech)
    assert text.startswith("Wav2Vec2Processor:\n- feature_extractor: Wav2Vec2FeatureExtractor {\n")
    assert "\n- tokenizer: Wav2Vec2CTCTokenizer(" in text
    assert text.endswith('"processor_class": "Wav2Vec2Processor"\n}')


def test_a_processor_is_one_folder(speech: Wav2Vec2Processor, tmp_path: Path) -> None:
    speech.save_pretrained(tmp_path / "saved")
    content = json.loads((tmp_path / "saved/processor_config.json").read_text())
    assert content == {"feature_extractor": speech.feature_extractor.to_dict(), "processor_class": "Wav2Vec2Processor"}
    assert (tmp_path / "saved/vocab.json").is_file()
    for loader in (AutoProcessor, Wav2Vec2Processor):
        again = loader.from_pretrained(tmp_path / "saved")
        assert type(again) is Wav2Vec2Processor
        assert again.feature_extractor == speech.feature_extractor
        assert again.tokenizer("abc").input_ids == [5, 6, 7]
    changed = Wav2Vec2Processor.from_pretrained(tmp_path / "saved", do_normalize=False, do_lower_case=True)
    assert (changed.feature_extractor.do_normalize, changed.tokenizer.do_lower_case) == (False, True)


def test_folders_in_the_old_layout_are_read(speech: Wav2Vec2Processor, tmp_path: Path) -> None:
    speech.feature_extractor.save_pretrained(tmp_path / "old")
    speech.tokenizer.save_pretrained(tmp_path / "old")
    again = Wav2Vec2Processor.from_pretrained(tmp_path / "old")
    assert again.feature_extractor == speech.feature_extractor
    path = tmp_path / "old/preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "processor_class": "Wav2Vec2Processor"}))
    assert type(AutoProcessor.from_pretrained(tmp_path / "old")) is Wav2Vec2Processor


def test_unknown_keys_of_a_file_are_kept(speech: Wav2Vec2Processor, tmp_path: Path) -> None:
    speech.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved/processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    Wav2Vec2Processor.from_pretrained(tmp_path / "saved").save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again/processor_config.json").read_text())["colour"] == "red"


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("[]", FileFormatError, "processor_config.json holds a JSON list"),
        ('{"feature_extractor": 3}', FileFormatError, "feature_extractor must be an object"),
        ('{"feature_extractor": {"sampling_rate": "x"}}', ConfigurationError, "processor_config.json, feature_extrac"),
    ],
)
def test_broken_files_are_named(
    content: str, error: type[Exception], message: str, speech: Wav2Vec2Processor, tmp_path: Path
) -> None:
    speech.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved/processor_config.json").write_text(content)

    class Listening(ProcessorMixin):
        feature_extractor: Wav2Vec2FeatureExtractor

    with pytest.raises(error, match=message):
        Listening.from_pretrained(tmp_path / "saved")
    with pytest.raises(FileFormatError, match="a processor is a whole folder"):
        Listening.from_pretrained(tmp_path / "saved/processor_config.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError):
        Listening.from_pretrained(tmp_path / "empty")


def test_a_repository_of_the_hub_is_read(
    words: DistilBertTokenizer, speech: Wav2Vec2Processor, tmp_path: Path, run_fresh: Any
) -> None:
    speech.save_pretrained(tmp_path / "local")
    words.save_pretrained(tmp_path / "local/second_tokenizer")
    paths = [path for path in (tmp_path / "local").rglob("*") if path.is_file()]
    files = {path.relative_to(tmp_path / "local").as_posix(): path.read_bytes() for path in paths}
    code = """
from maquette import AutoProcessor
from maquette.processing.processor import ProcessorMixin

class Bilingual(ProcessorMixin):
    attributes = ["tokenizer", "second_tokenizer"]

print(AutoProcessor.from_pretrained("someone/speech")(text="ab").input_ids)
print(Bilingual.from_pretrained("someone/speech").second_tokenizer("a cat").input_ids)
"""
    with LoopbackHub() as hub:
        hub.add_commit("someone/speech", files)
        assert run_fresh(code, env=dict(hub.environ(tmp_path / "cache"))) == "[5, 6]\n[2, 5, 6, 3]\n"


class ReaderConfig(PretrainedConfig):
    model_type = "reader-for-tests"


def test_registered_processors_are_found(words: DistilBertTokenizer, tmp_path: Path) -> None:
    AutoConfig.register("reader-for-tests", ReaderConfig, exist_ok=True)
    AutoProcessor.register(ReaderConfig, Annotated, exist_ok=True)
    Annotated(Frames(stretch=30), words, greeting="hi").save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert (type(again), again.greeting, again.feature_extractor.stretch) == (Annotated, "hi", 30)


CODE = """
from maquette.audio.feature_extraction import SequenceFeatureExtractor
from maquette.processing.processor import ProcessorMixin

class Louder(SequenceFeatureExtractor):
    gain: float = 2.0

    def __call__(self, audio, *, sampling_rate=None, **options):
        clips = self.read_clips(audio, sampling_rate=sampling_rate)
        return self.pad({"input_values": [self.gain * clip for clip in clips]}, **options)

class Shouter(ProcessorMixin):
    feature_extractor: Louder
    tokenizer_class = "AutoTokenizer"
    tokenizer: object

Louder.register_for_auto_class("AutoFeatureExtractor")
Shouter.register_for_auto_class()
"""


def test_code_of_a_processor_and_its_parts_travels_and_needs_trust(
    words: DistilBertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_fresh: Any
) -> None:
    (tmp_path / "shouting_for_tests.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    from shouting_for_tests import Louder, Shouter

    Shouter(Louder(gain=3.0), words).save_pretrained(tmp_path / "saved")
    sys.modules.pop("shouting_for_tests")
    saved = json.loads((tmp_path / "saved/processor_config.json").read_text())
    assert saved["auto_map"] == {"AutoProcessor": "shouting_for_tests.Shouter"}
    assert saved["feature_extractor"]["auto_map"] == {"AutoFeatureExtractor": "shouting_for_tests.Louder"}
    with pytest.raises(UntrustedCodeError):
        AutoProcessor.from_pretrained(tmp_path / "saved")
    (tmp_path / "shouting_for_tests.py").unlink()
    code = f"""
from maquette import AutoProcessor
processor = AutoProcessor.from_pretrained({str(tmp_path / "saved")!r}, trust_remote_code=True)
processor.save_pretrained({str(tmp_path / "again")!r})
again = AutoProcessor.from_pretrained({str(tmp_path / "again")!r}, trust_remote_code=True)
batch = again(audio=[0.5, -0.5], sampling_rate=16000)
print(type(again).__name__, again.feature_extractor.gain, batch.input_values.tolist(), again.tokenizer("dog").input_ids)
"""
    assert run_fresh(code) == "Shouter 3.0 [[1.5, -1.5]] [2, 7, 3]\n"


def test_code_of_a_part_alone_travels_and_needs_trust(
    speech: Wav2Vec2Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_fresh: Any
) -> None:
    (tmp_path / "louder_for_tests.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    from louder_for_tests import Louder

    Wav2Vec2Processor(Louder(gain=5.0), speech.tokenizer).save_pretrained(tmp_path / "saved")
    sys.modules.pop("louder_for_tests")
    (tmp_path / "louder_for_tests.py").unlink()
    assert (tmp_path / "saved/louder_for_tests.py").is_file()
    with pytest.raises(UntrustedCodeError):
        Wav2Vec2Processor.from_pretrained(tmp_path / "saved")
    code = f"""
from maquette import Wav2Vec2Processor
processor = Wav2Vec2Processor.from_pretrained({str(tmp_path / "saved")!r}, trust_remote_code=True)
print(processor([0.5], sampling_rate=16000).input_values.tolist())
"""
    assert run_fresh(code) == "[[2.5]]\n"


def test_processors_are_pickled_and_copied(speech: Wav2Vec2Processor) -> None:
    for other in (pickle.loads(pickle.dumps(speech)), copy.deepcopy(speech), copy.copy(speech)):
        assert other.feature_extractor == speech.feature_extractor
        assert other.tokenizer("abc").input_ids == [5, 6, 7]


def test_a_save_that_fails_changes_nothing(speech: Wav2Vec2Processor, tmp_path: Path) -> None:
    speech.save_pretrained(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    broken = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(sampling_rate=8000), speech.tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wav2Vec2CTCTokenizer, "save_vocabulary", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            broken.save_pretrained(tmp_path / "saved")
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
