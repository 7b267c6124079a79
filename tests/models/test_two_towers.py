"""What texts and images in two towers have of their own: losses over processes, ends of texts, sizes, and errors."""

import io
import json
import os
import socket
import string
import subprocess
import sys

import contrast_processes
import numpy as np
import pytest
import sentencepiece
import torch
from byte_level import TEXTS
from rounding import STEPS_OF_GRADIENTS, assert_near
from safetensors.torch import load_file, save_file

import maquette
from maquette import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizerFast,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    SiglipTextModel,
    SiglipTokenizer,
)
from maquette.errors import ConfigurationError, InputError
from maquette.modeling.packing import use_packing
from maquette.models import siglip
from maquette.models.clip import IMAGE, TEXT
from maquette.models.clip.modeling import find_ends
from maquette.testing import check_model

MODELS = {
    "clip": lambda: CLIPModel(CLIPConfig(text_config=TEXT, vision_config=IMAGE, projection_dim=10)),
    "siglip": lambda: SiglipModel(SiglipConfig(**siglip.CARDS[0].tiny)),
}


def make(name="clip"):
    torch.manual_seed(0)
    return MODELS[name]().eval()


def make_rows(count=5) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(3)
    ids = torch.randint(4, 40, (count, 6), generator=chance)
    ids[:, -1] = 3
    return {"input_ids": ids, "pixel_values": torch.randn(count, 3, 12, 12, generator=chance)}


# Losses ----------------------------------------------------------------------------------------------------------


def test_processes_learn_what_one_learns_from_the_whole_batch(tmp_path):
    """The loss is the same, and so are the gradients that `DistributedDataParallel` averages; also of uneven rows."""
    rows, sizes = make_rows(), [3, 2]
    for name in MODELS:
        make(name).save_pretrained(tmp_path / name)
    save_file(rows, tmp_path / "rows.safetensors")
    (tmp_path / "divided.json").write_text(json.dumps(sizes), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, contrast_processes.__file__, str(tmp_path)]
    started = [
        subprocess.Popen(command, env={**os.environ, **common, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=180)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    for name in MODELS:
        expected = contrast_processes.learn(tmp_path, name, rows, lambda model: model)
        for rank in range(2):
            found = load_file(tmp_path / f"{name}-{rank}.safetensors")
            assert found.keys() == expected.keys()
            assert_near(found.pop("loss"), expected["loss"], f"{name}, loss")
            for key, value in found.items():
                assert_near(value, expected[key], key, among=expected.values(), steps=STEPS_OF_GRADIENTS, least=0.0)


def test_the_loss_is_that_of_guessing_the_partner():
    model, rows = make(), make_rows()
    with torch.no_grad():
        output = model(**rows, return_loss=True)
    scores = output.logits_per_text.double().numpy()
    guesses = [np.exp(table) / np.exp(table).sum(1, keepdims=True) for table in (scores, scores.T)]
    assert output.loss.item() == pytest.approx(-np.mean([np.log(np.diag(table)) for table in guesses]), rel=1e-5)


def test_the_loss_of_pairs_is_that_of_telling_each():
    model, rows = make("siglip"), make_rows()
    with torch.no_grad():
        model.logit_bias.fill_(-1.5)
        output = model(**rows, return_loss=True)
    chances = 1 / (1 + np.exp(-output.logits_per_text.double().numpy()))
    right = np.where(np.eye(5), chances, 1 - chances)
    assert output.loss.item() == pytest.approx(-np.log(right).sum() / 5, rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_learns_what_belongs_together(name):
    torch.manual_seed(0)
    model, rows = make(name).train(), make_rows()
    torch.nn.init.constant_(model.logit_scale, 2.3)  # the logarithm of 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = model(**rows, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < (0.1 if name == "clip" else 1.0)
    assert model.eval()(**rows).logits_per_image.argmax(1).tolist() == list(range(5))


# Texts -----------------------------------------------------------------------------------------------------------


def test_texts_end_where_they_say():
    ids = torch.tensor([[1, 9, 3, 3, 3], [1, 9, 8, 3, 3], [1, 9, 8, 7, 5], [3, 3, 1, 9, 3]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 1, 1, 1]]).bool()
    assert find_ends(ids, 3).tolist() == [2, 3, 4, 0]
    assert find_ends(ids, 3, mask).tolist() == [2, 3, 3, 4]
    assert find_ends(ids, [8, 3], mask).tolist() == [2, 2, 2, 4]
    assert find_ends(ids, 2).tolist() == [1, 1, 1, 3]  # the highest id, as files of before 2023 mean it
    assert find_ends(ids, 2, mask).tolist() == [1, 1, 1, 3]


def test_a_text_gets_the_same_vector_whatever_surrounds_it():
    model = make().text_model
    row = torch.tensor([[1, 9, 8, 3]])
    expected = model(row).pooler_output
    padded = torch.tensor([[1, 9, 8, 3, 3, 3, 3, 3], [1, 5, 6, 7, 8, 9, 9, 3]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0], [1] * 8])
    assert_near(model(padded, mask).pooler_output[:1], expected)
    assert_near(model(padded).pooler_output[:1], expected)  # no token sees what comes after it


def test_a_vocabulary_grows_in_the_tower():
    model = make()
    model.resize_token_embeddings(50)
    assert model.config.vocab_size == model.config.text_config.vocab_size == 50
    assert model.text_model.embeddings.token_embedding.num_embeddings == 50


# Folders of 2021 and of one tower ----------------------------------------------------------------------------------


def test_folders_of_2021_load(tmp_path):
    """With buffers of positions, and with the towers' fields said twice, of which the second counts."""
    model = make()
    old = {name: value.clone() for name, value in model.state_dict().items()}
    old |= {f"{tower}.embeddings.position_ids": torch.arange(10)[None] for tower in ("text_model", "vision_model")}
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads(model.config.to_json_string())
    config |= {"text_config_dict": config["text_config"], "vision_config_dict": None}
    config["text_config"] = {"hidden_size": 99, "model_type": "clip_text_model"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    rows = make_rows()
    for cls, given in ((CLIPModel, rows), (CLIPTextModel, {"input_ids": rows["input_ids"]})):
        if cls is CLIPTextModel:
            (tmp_path / "config.json").write_text(model.config.to_json_string(), encoding="utf-8")
        found, info = cls.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values())
        own = model if cls is CLIPModel else model.text_model
        assert torch.equal(found(**given)[0], own(**given)[0])


def test_each_part_loads_from_a_folder_of_both(tmp_path):
    model, rows = make(), make_rows()
    model.save_pretrained(tmp_path)
    image, info = CLIPVisionModelWithProjection.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()) and image.config == model.config.vision_config
    expected = model.get_image_features(rows["pixel_values"]).pooler_output
    assert torch.equal(image(rows["pixel_values"]).image_embeds, expected)
    eager = CLIPModel.from_pretrained(tmp_path, attn_implementation="eager")
    assert eager.vision_model.config.attn_implementation == "eager"
    assert type(maquette.AutoModel.from_config(model.config.text_config)) is CLIPTextModel


@pytest.mark.parametrize("name", ["CLIPTextModelWithProjection", "CLIPVisionModelWithProjection"])
def test_towers_with_projections_conform(name):
    """They are no AutoClass's first choice, so that the cards do not examine them."""
    cls = getattr(maquette, name)
    report = check_model(cls, cls.config_class(**(TEXT if "Text" in name else IMAGE)), only=QUICK)
    assert set(report.passed) == QUICK


QUICK = {"batch", "reload", "gradients", "checkpointing", "half_precision", "export"}


# Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "kind", "message"),
    [
        (CLIPTextModel, CLIPVisionModel, "CLIPTextConfig needs the tower of 'text_config'.*'clip_vision_model'"),
        (CLIPVisionModel, CLIPTextModel, "CLIPVisionConfig needs the tower of 'vision_config'.*'clip_text_model'"),
    ],
)
def test_a_folder_of_the_other_tower_is_one_error(cls, kind, message, tmp_path):
    model = make()
    (model.text_model if kind is CLIPTextModel else model.vision_model).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        cls.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: CLIPConfig(text_config={"model_type": "clip_vision_model"}), "needs the tower of 'text_config'"),
        (lambda: CLIPConfig(vision_config=CLIPTextConfig()), "vision_config: Expected CLIPVisionConfig"),
        (lambda: CLIPTextModel(CLIPVisionConfig(**IMAGE)), "made from a CLIPTextConfig, not from a CLIPVisionConfig"),
        (lambda: CLIPVisionModel(make().config), "made from a CLIPVisionConfig.*as vision_config"),
        (lambda: CLIPTextConfig(hidden_size=10, num_attention_heads=3), "hidden_size=10 cannot be shared equally"),
        (lambda: CLIPVisionConfig(image_size=8, patch_size=9), "less than one patch"),
        (lambda: CLIPConfig(vision_config={"pacth_size": 3}), "vision_config.*Did you mean 'patch_size'"),
    ],
)
def test_configurations_that_contradict_themselves_are_errors(attempt, message):
    with pytest.raises(ConfigurationError, match=message):
        attempt()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values": None}, "got no pixel_values. get_text_features"),
        ({"input_ids": None}, "got no input_ids. get_image_features"),
        ({"pixel_values": torch.zeros(2, 3, 12, 12)}, "5 texts and 2 images"),
        ({"pixel_values": torch.zeros(5, 3, 20, 12)}, "20 x 12.*12 x 12.*interpolate_pos_encoding=True"),
        ({"pixel_values": torch.zeros(5, 1, 12, 12)}, "3 channels"),
        ({"pixel_values": torch.zeros(5, 3, 12, 12, dtype=torch.uint8)}, "floating-point, not torch.uint8"),
        ({"input_ids": torch.ones(5, 13, dtype=torch.long)}, "13 tokens, 12 positions"),
        ({"input_ids": torch.ones(5, 3)}, r"CLIPTextModel reads texts.*not torch.float32 \(5, 3\)"),
    ],
)
def test_what_a_model_cannot_take_is_one_error(change, message):
    with pytest.raises(ValueError, match=message):
        make()(**{**make_rows(), **change}, return_loss=True)


# The processor ---------------------------------------------------------------------------------------------------


def make_tokenizer():
    letters = [*"abcdefgh", *(f"{letter}</w>" for letter in "abcdefgh"), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizerFast(vocab={token: place for place, token in enumerate(letters)}, merges=[])


def test_a_processor_prepares_both_and_travels(tmp_path):
    processor = CLIPProcessor(CLIPImageProcessor(size=12, crop_size=12), make_tokenizer())
    picture = np.zeros((20, 30, 3), np.uint8)
    batch = processor(text=["A b", "abc"], images=[picture] * 2, padding=True, return_tensors="pt")
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_ids": (2, 5),
        "attention_mask": (2, 5),
        "pixel_values": (2, 3, 12, 12),
    }
    assert processor("ab").input_ids == [16, 0, 9, 17]
    processor.save_pretrained(tmp_path)
    again = maquette.AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is CLIPProcessor and type(again.tokenizer) is CLIPTokenizerFast
    assert torch.equal(again(images=picture, return_tensors="pt").pixel_values, batch.pixel_values[:1])


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (
            lambda: CLIPProcessor(CLIPImageProcessor(), None),
            "tokenizer must be a tokenizer, not NoneType",
        ),
        (lambda: CLIPProcessor(None, make_tokenizer()), "image_processor must be an image processor, not NoneType"),
        (lambda: CLIPProcessor(make_tokenizer(), CLIPImageProcessor()), "image_processor must be .*CLIPTokenizerFast"),
        (lambda: CLIPProcessor(CLIPImageProcessor(), make_tokenizer())(), "was given nothing to process"),
    ],
)
def test_a_processor_names_the_part_that_it_lacks(attempt, message):
    with pytest.raises(InputError, match=message):
        attempt()


def make_pieces(folder):
    """Train a model of SentencePiece in which padding has a piece of its own; gives its path."""
    made = io.BytesIO()
    lines = [canonical(line) for text in TEXTS for line in text.splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for line in lines if line] * 5),
        model_writer=made,
        model_type="unigram",
        vocab_size=500,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    (folder / "spiece.model").write_bytes(made.getvalue())
    return folder / "spiece.model"


def canonical(text):
    """Do what the authors do before a text is cut: small letters, no punctuation, single spaces."""
    return " ".join(text.lower().translate(str.maketrans("", "", string.punctuation)).split())


def test_siglips_texts_are_cut_as_the_authors_cut_them(tmp_path):
    library = sentencepiece.SentencePieceProcessor(model_file=str(make_pieces(tmp_path)))
    tokenizer = SiglipTokenizer(tmp_path / "spiece.model")
    texts = [text for text in TEXTS if canonical(text) and "\u0323" not in text]  # Rust's map takes whole graphemes
    texts += ["A PHOTO of a cat!", "Hi, there... It's -- a DOG?", " ! a"]
    assert tokenizer(texts).input_ids == [[*library.encode(canonical(text)), 1] for text in texts]
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.model_max_length) == ("</s>", "</s>", 64)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = maquette.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(again) is SiglipTokenizer and again(texts).input_ids == tokenizer(texts).input_ids


def test_siglips_processor_pads_texts_as_the_model_was_trained(tmp_path):
    processor = SiglipProcessor(SiglipImageProcessor(size=[12, 12]), SiglipTokenizer(make_pieces(tmp_path)))
    batch = processor(["a b", "c"], np.zeros((20, 30, 3), np.uint8), return_tensors="pt")
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_ids": (2, 64),
        "pixel_values": (1, 3, 12, 12),
    }
    assert processor("a b", padding=False).input_ids[-1] == 1
    processor.save_pretrained(tmp_path / "saved")
    again = maquette.AutoProcessor.from_pretrained(tmp_path / "saved")
    assert type(again) is SiglipProcessor and again("a b").input_ids == processor("a b").input_ids


def test_siglip_reads_the_last_token_that_is_real():
    torch.manual_seed(0)
    model = SiglipTextModel(maquette.SiglipTextConfig(**siglip.TEXT)).eval()
    ids = torch.tensor([[5, 6, 7, 1, 1], [5, 6, 7, 8, 9]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    for packed in (True, False):
        with use_packing(packed):
            found = model(ids, mask).pooler_output
        assert_near(found[:1], model(ids[:1, :3]).pooler_output)
        assert_near(found[1:], model(ids[1:]).pooler_output)


def test_siglips_towers_have_to_meet():
    with pytest.raises(ConfigurationError, match=r"projection_size=16 must be the width of images.*hidden_size=20"):
        SiglipConfig(text_config=siglip.TEXT, vision_config={**siglip.IMAGE, "hidden_size": 20})
    with pytest.raises(ValueError, match="vision_use_head=True"):
        SiglipModel(SiglipConfig(text_config=siglip.TEXT, vision_config={**siglip.IMAGE, "vision_use_head": False}))
    with pytest.raises(ConfigurationError, match="SiglipTextConfig needs the tower of 'text_config'"):
        maquette.SiglipTextConfig.from_dict({"model_type": "siglip_vision_model"})


def test_a_folder_without_a_part_is_an_error_that_names_it(tmp_path):
    CLIPImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(maquette.MaquetteError, match="tokenizer"):
        CLIPProcessor.from_pretrained(tmp_path)


def test_a_processor_without_one_of_its_parts_names_it() -> None:
    from maquette import CLIPImageProcessor, CLIPProcessor, WhisperFeatureExtractor, WhisperProcessor

    with pytest.raises(ConfigurationError, match="CLIPProcessor needs tokenizer"):
        CLIPProcessor(image_processor=CLIPImageProcessor())
    with pytest.raises(ConfigurationError, match="WhisperProcessor needs tokenizer"):
        WhisperProcessor(WhisperFeatureExtractor())
    message = "must be an image processor, not WhisperFeatureExtractor, a feature extractor"
    with pytest.raises(InputError, match=message):
        CLIPProcessor(image_processor=WhisperFeatureExtractor(), tokenizer=None)
