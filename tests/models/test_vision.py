"""Models of images, and of images with texts, compute what the peer computes, on either's weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from byte_level import TEXTS
from PIL import Image
from rounding import STEPS_OF_GRADIENTS, assert_near
from safetensors.torch import load_file, save_file
from stored_arrays import read_arrays
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from vision_calls import flatten, hide, run

import maquette
from maquette.modeling.packing import use_packing

VOCABULARY, END = 40, 3
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 12,
}
IMAGE = {
    "hidden_size": 20,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 12,
    "patch_size": 4,
}
CLIP_TEXT = {**TEXT, "projection_dim": 10, "bos_token_id": 1, "eos_token_id": END, "pad_token_id": END}
CLIP_IMAGE = {**IMAGE, "projection_dim": 10}
CLIP = {"text_config": CLIP_TEXT, "vision_config": CLIP_IMAGE, "projection_dim": 10}
OLD = {"text_config": {**CLIP_TEXT, "eos_token_id": 2}, "vision_config": CLIP_IMAGE, "projection_dim": 10}
SIGLIP_IMAGE = {**IMAGE, "hidden_size": 16}
SIGLIP = {"text_config": TEXT, "vision_config": SIGLIP_IMAGE}
DINO = {**IMAGE, "mlp_ratio": 2, "layerscale_value": 0.7, "initializer_range": 0.2}
DINO.pop("intermediate_size")
CONV = {"hidden_sizes": [8, 12, 16], "depths": [1, 2, 1], "num_stages": 3, "patch_size": 2, "initializer_range": 0.2}
CONV_1 = {**CONV, "layer_scale_init_value": 0.7}
SOME = {"out_features": ["stage1", "stage3"]}
STRETCHED = {"interpolate_pos_encoding": True}
READ, SEEN = {"input_ids": "ids", "attention_mask": "mask"}, {"pixel_values": "square"}
LEFT = {"input_ids": "ids", "attention_mask": "left"}
FREE, LABELLED = {"input_ids": "ids"}, SEEN | {"labels": "class"}


def case(class_name, config_name, fields, inputs, *, shown="", **options):
    return {
        "class": class_name,
        "config": config_name,
        "fields": fields,
        "inputs": inputs,
        "options": options,
        "shown": shown,
    }


CASES: dict[str, dict[str, Any]] = {
    "clip": case("CLIPModel", "CLIPConfig", CLIP, READ | SEEN, shown="all", return_loss=True),
    "clip scores": case("CLIPModel", "CLIPConfig", CLIP, FREE | {"pixel_values": "large"}, **STRETCHED),
    "clip old": case("CLIPModel", "CLIPConfig", OLD, {"input_ids": "old ids", "attention_mask": "mask"} | SEEN),
    "clip text": case("CLIPTextModel", "CLIPTextConfig", CLIP_TEXT, READ, shown="all"),
    "clip image": case("CLIPVisionModel", "CLIPVisionConfig", {**CLIP_IMAGE, "hidden_act": "gelu"}, SEEN, shown="all"),
    "clip image wide": case("CLIPVisionModel", "CLIPVisionConfig", CLIP_IMAGE, {"pixel_values": "wide"}, **STRETCHED),
    "clip text embeds": case("CLIPTextModelWithProjection", "CLIPTextConfig", CLIP_TEXT, READ),
    "clip image embeds": case("CLIPVisionModelWithProjection", "CLIPVisionConfig", CLIP_IMAGE, SEEN, shown="all"),
    "clip classes": case(
        "CLIPForImageClassification", "CLIPConfig", {**CLIP, "num_labels": 3}, SEEN | {"labels": "class"}
    ),
    "siglip": case("SiglipModel", "SiglipConfig", SIGLIP, FREE | SEEN, shown="all", return_loss=True),
    "siglip masks": case("SiglipModel", "SiglipConfig", SIGLIP, LEFT | {"pixel_values": "large"}, **STRETCHED),
    "siglip text": case(
        "SiglipTextModel", "SiglipTextConfig", {**TEXT, "projection_size": 5, "hidden_act": "gelu"}, FREE, shown="all"
    ),
    "siglip image": case("SiglipVisionModel", "SiglipVisionConfig", IMAGE, SEEN, shown="all"),
    "siglip bare": case(
        "SiglipVisionModel",
        "SiglipVisionConfig",
        {**IMAGE, "vision_use_head": False},
        {"pixel_values": "wide"},
        **STRETCHED,
    ),
    "siglip classes": case("SiglipForImageClassification", "SiglipConfig", {**SIGLIP, "num_labels": 3}, LABELLED),
    "dinov2": case("Dinov2Model", "Dinov2Config", DINO, {"pixel_values": "wide"}, shown="all"),
    "dinov2 gated": case("Dinov2Model", "Dinov2Config", {**DINO, "use_swiglu_ffn": True, "qkv_bias": False}, SEEN),
    "dinov2 hidden": case("Dinov2Model", "Dinov2Config", DINO, SEEN | {"bool_masked_pos": "masked"}),
    "dinov2 classes": case("Dinov2ForImageClassification", "Dinov2Config", {**DINO, "num_labels": 3}, LABELLED),
    "dinov2 maps": case("Dinov2Backbone", "Dinov2Config", {**DINO, "num_hidden_layers": 3, **SOME}, SEEN, shown="all"),
    "dinov2 rows": case(
        "Dinov2Backbone",
        "Dinov2Config",
        {**DINO, "reshape_hidden_states": False, "apply_layernorm": False, "use_mask_token": False},
        {"pixel_values": "wide"},
    ),
    "convnext": case("ConvNextModel", "ConvNextConfig", CONV_1, {"pixel_values": "wide"}, shown="states"),
    "convnext bare": case("ConvNextModel", "ConvNextConfig", {**CONV_1, "layer_scale_init_value": 0.0}, SEEN),
    "convnext classes": case("ConvNextForImageClassification", "ConvNextConfig", {**CONV_1, "num_labels": 3}, LABELLED),
    "convnext maps": case("ConvNextBackbone", "ConvNextConfig", {**CONV_1, **SOME}, SEEN, shown="states"),
    "convnextv2": case("ConvNextV2Model", "ConvNextV2Config", CONV, SEEN, shown="states"),
    "convnextv2 classes": case(
        "ConvNextV2ForImageClassification", "ConvNextV2Config", {**CONV, "num_labels": 3}, LABELLED
    ),
    "convnextv2 maps": case("ConvNextV2Backbone", "ConvNextV2Config", {**CONV, **SOME}, SEEN),
}
FRESH = {
    "siglip": case(
        "SiglipModel",
        "SiglipConfig",
        {
            "text_config": {**TEXT, "hidden_size": 48, "vocab_size": 100},
            "vision_config": {**SIGLIP_IMAGE, "hidden_size": 48, "num_attention_heads": 4},
        },
        {},
    ),
    "siglip classes": case("SiglipForImageClassification", "SiglipConfig", {**SIGLIP, "num_labels": 30}, {}),
    "dinov2": case("Dinov2ForImageClassification", "Dinov2Config", {**DINO, "hidden_size": 48}, {}),
    "convnext": case("ConvNextForImageClassification", "ConvNextConfig", {**CONV_1, "hidden_sizes": [24, 32, 40]}, {}),
    "convnextv2": case("ConvNextV2Model", "ConvNextV2Config", {**CONV, "hidden_sizes": [24, 32, 40]}, {}),
    "clip": case(
        "CLIPModel",
        "CLIPConfig",
        {
            "text_config": {**CLIP_TEXT, "hidden_size": 64, "vocab_size": 100, "intermediate_size": 96},
            "vision_config": {**CLIP_IMAGE, "hidden_size": 48, "intermediate_size": 80},
            "projection_dim": 40,
        },
        {},
    ),
}


def make(about, **more):
    torch.manual_seed(0)
    config = getattr(maquette, about["config"])(**about["fields"], **more)
    return getattr(maquette, about["class"])(config).eval()


def make_inputs() -> dict[str, torch.Tensor]:
    """Three texts that end, images of several sizes, and labels."""
    chance = torch.Generator().manual_seed(7)
    mask = (torch.arange(7) < torch.tensor([7, 3, 5])[:, None]).long()
    ids = torch.randint(4, VOCABULARY - 1, (3, 7), generator=chance)
    ids[:, 0] = 1
    is_end = (mask.cumsum(1) == mask.sum(1, keepdim=True)) & mask.bool()
    shapes = {"square": (12, 12), "large": (20, 20), "wide": (8, 30)}
    return {
        "ids": ids.masked_fill((mask == 0) | is_end, END),
        "old ids": ids.masked_fill(mask == 0, 0).masked_fill(is_end, VOCABULARY - 1),
        "mask": mask,
        "left": mask.flip(1).contiguous(),
        **{name: torch.randn(3, 3, *shape, generator=chance) for name, shape in shapes.items()},
        "class": torch.tensor([2, 0, 1]),
        "masked": torch.rand(3, 9, generator=chance) < 0.4,
    }


# The peer --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exchange(tmp_path_factory, run_peer):
    """A folder through which both libraries went: our models, theirs, and what the peer computes with each."""
    folder = tmp_path_factory.mktemp("vision")
    (folder / "results").mkdir()
    save_file(make_inputs(), folder / "inputs.safetensors")
    (folder / "cases.json").write_text(json.dumps(CASES), encoding="utf-8")
    (folder / "fresh.json").write_text(json.dumps(FRESH), encoding="utf-8")
    for name, about in CASES.items():
        make(about).save_pretrained(folder / "ours" / name)
    write_parts(folder / "parts")
    run_peer(Path(__file__).parent / "peer_vision.py", folder)
    return folder


def short(names, weights):
    """Leave out the name of the tower that files of one tower alone may have before theirs."""
    return {name if name in names else name.partition(".")[2]: weight for name, weight in weights.items()}


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_peer(exchange, name, whose, kind):
    about, inputs = CASES[name], make_inputs()
    model, info = getattr(maquette, about["class"]).from_pretrained(
        exchange / whose / name, attn_implementation=kind, output_loading_info=True
    )
    assert not any(info.values()), info
    names = dict(model.named_parameters())
    assert short(names, load_file(exchange / "theirs" / name / "model.safetensors")).keys() == names.keys()
    expected = load_file(exchange / "results" / f"{whose}-{name}.safetensors")
    wanted = short(names, load_file(exchange / "gradients" / f"{whose}-{name}" / "model.safetensors"))
    for packed in (True, False) if "attention_mask" in about["inputs"] and kind == "sdpa" else (None,):
        with use_packing(packed):
            found = run(model, about, inputs)
        assert found.keys() == expected.keys()
        for key, value in found.items():
            assert_near(value, expected[key], key)
        for key, parameter in names.items():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            options = {"among": wanted.values(), "steps": STEPS_OF_GRADIENTS, "least": 0.0}
            assert_near(gradient, wanted[key], key, **options)


@pytest.mark.parametrize("name", [name for name, about in CASES.items() if about["shown"]])
def test_states_and_attention_weights_equal_the_peers(exchange, name):
    about, inputs = CASES[name], make_inputs()
    expected = load_file(exchange / "results" / f"shown-{name}.safetensors")
    model = getattr(maquette, about["class"]).from_pretrained(exchange / "theirs" / name)
    given = {argument: inputs[place] for argument, place in about["inputs"].items()}
    shown = {"output_hidden_states": True, **({"output_attentions": True} if about["shown"] == "all" else {})}
    mask = given.get("attention_mask")
    with torch.no_grad():
        found = hide(flatten(model(**given, **about["options"], **shown)), mask)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        one, other = value, expected[key]
        if "attentions" in key and mask is not None and value.shape[-1] == mask.shape[1]:
            one, other = (
                x * mask[:, None, :, None] for x in (one, other)
            )  # what padding looks at is nobody's business
        assert_near(one, other, key)


# Of SigLIP, drawn by LeCun's rule:
LECUN = ("head.weight", "head.attention.out_proj.weight", "patch_embedding.weight", "classifier.weight")


@pytest.mark.parametrize("name", FRESH)
def test_fresh_weights_are_distributed_as_the_peers(exchange, name):
    expected = json.loads((exchange / "drawn.json").read_text(encoding="utf-8"))[name]
    found = make(FRESH[name]).state_dict()
    assert found.keys() == expected.keys()
    for key, weight in found.items():
        mean, std, largest = expected[key]
        size = weight.abs().max().item()
        assert size <= 1e-9 >= largest or largest / 3 <= size <= 3 * largest, key
        if weight.numel() < 40:
            continue
        if name == "siglip" and key.endswith(LECUN):
            std *= 0.8796  # theirs divides by what truncating would take away, and then truncates nothing
        chance = 5 / weight.numel() ** 0.5  # five standard deviations of what one draws by chance
        assert weight.std().item() == pytest.approx(std, rel=chance, abs=1e-7), key
        assert weight.mean().item() == pytest.approx(mean, abs=(0.2 + chance) * std + 1e-7), key


# Of the peer's common fields, those that ours has no word for, or keeps elsewhere.
NOT_OURS = {"transformers_version", "architectures", "problem_type", "model_type", "id2label", "label2id"}
NOT_OURS |= {"stage_names"}  # which follow from the depths


@pytest.mark.parametrize("name", sorted({about["config"] for about in CASES.values()}))
def test_configurations_have_the_peers_fields_and_defaults(exchange, name):
    theirs = json.loads((exchange / "defaults.json").read_text(encoding="utf-8"))[name]
    config = getattr(maquette, name)()
    ours = config.to_dict()
    compare_fields(ours, theirs, type(config)._own_fields())
    for part, kind in config.sub_configs.items():
        compare_fields(getattr(config, part).to_dict(), theirs[part], kind._own_fields())


def compare_fields(ours, theirs, own):
    for field in (theirs.keys() & own) - {"text_config", "vision_config"}:
        assert plain(ours[field]) == plain(theirs[field]), field
    assert not {field for field in theirs if not field.startswith("_")} - ours.keys() - NOT_OURS


def plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", CASES)
def test_configurations_go_both_ways(exchange, name):
    """The peer writes what we write, but for versions and what both leave to defaults."""
    ours, theirs = (
        json.loads((exchange / whose / name / "config.json").read_text(encoding="utf-8"))
        for whose in ("ours", "theirs")
    )
    assert ours.pop("maquette_version") and theirs.pop("transformers_version")
    theirs.pop("stage_names", None)
    for part in ("text_config", "vision_config"):
        if part in theirs:
            own, other = ours.pop(part), theirs.pop(part)
            assert {field: plain(other[field]) for field in own} == own
    assert ours == theirs


# What prepares images and texts -----------------------------------------------------------------------------------

PROCESSORS = {
    "clip": ("clip.image_processing_pil_clip", "CLIPImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": 16}),
    "siglip": ("siglip.image_processing_pil_siglip", "SiglipImageProcessor", {"size": {"height": 18, "width": 20}}),
    "bit": ("bit.image_processing_pil_bit", "BitImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": 24}),
    "convnext": ("convnext.image_processing_pil_convnext", "ConvNextImageProcessor", {"size": {"shortest_edge": 30}}),
    "convnext crop": (
        "convnext.image_processing_pil_convnext",
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 24}, "crop_pct": 0.7, "do_center_crop": True, "crop_size": 17},
    ),
}


def write_parts(folder):
    """Write images, texts, and folders of what prepares them, as we save them."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number, (height, width) in enumerate([(40, 60), (33, 21), (25, 25), (90, 31)]):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    (folder / "texts.json").write_text(json.dumps(TEXTS_OF_ALL), encoding="utf-8")
    for name, (module, kind, settings) in PROCESSORS.items():
        getattr(maquette, kind)(**settings).save_pretrained(folder / f"images-{name}")
        about = {"kind": "images", "module": module, "class": f"{kind}Pil"}
        (folder / f"images-{name}" / "about.json").write_text(json.dumps(about), encoding="utf-8")
    write_clip(folder / "texts-clip")


TEXTS_OF_ALL = [text for text in TEXTS if text.strip()] + ["A PHOTO of a cat!", "<|endoftext|>x y<|startoftext|>"]


def write_clip(folder):
    """Write a vocabulary and merges in the order in which CLIP's are."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    options: dict[str, Any] = {"initial_alphabet": letters, "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=900, end_of_word_suffix="</w>", **options)
    trained.train_from_iterator([text.lower() for text in TEXTS], trainer)
    merges = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(
        json.dumps({token: place for place, token in enumerate(tokens)}), encoding="utf-8"
    )
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}), encoding="utf-8")
    (folder / "about.json").write_text(json.dumps({"kind": "texts", "class": "CLIPTokenizer"}), encoding="utf-8")


@pytest.mark.parametrize("name", PROCESSORS)
def test_image_processors_give_the_peers_pixels(exchange, name):
    """From our file, from the peer's, and without any."""
    folder, (_, kind, _) = exchange / "parts" / f"images-{name}", PROCESSORS[name]
    pictures = [Image.open(path) for path in sorted((exchange / "parts").glob("*.png"))]
    expected = read_arrays(folder / "pixels.npz")
    for place in (folder, folder / "theirs"):
        processor = maquette.AutoImageProcessor.from_pretrained(place)
        assert type(processor).__name__ == kind
        for number, picture in enumerate(pictures):
            found = processor(picture, return_tensors="np")["pixel_values"][0]
            np.testing.assert_allclose(found, expected[str(number)], rtol=1e-5, atol=1e-5)
    found = getattr(maquette, kind)()(pictures[0], return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(found, read_arrays(folder / "plain.npz")["arr_0"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fast", [True, False])
def test_clips_tokenizers_give_the_peers_ids(exchange, fast, tmp_path):
    folder = exchange / "parts" / "texts-clip"
    expected = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
    tokenizer = maquette.AutoTokenizer.from_pretrained(folder, use_fast=fast)
    tokenizer.save_pretrained(tmp_path)
    whole = maquette.AutoTokenizer.from_pretrained(tmp_path, use_fast=fast)
    theirs = maquette.AutoTokenizer.from_pretrained(folder / "theirs", use_fast=fast)
    for one in (tokenizer, whole, theirs):
        assert type(one).__name__ == ("CLIPTokenizerFast" if fast else "CLIPTokenizer")
        assert one(TEXTS_OF_ALL).input_ids == expected["single"]
        assert one(TEXTS_OF_ALL, TEXTS_OF_ALL[::-1]).input_ids == expected["pairs"]
        assert one.batch_decode(expected["single"], skip_special_tokens=True) == expected["decoded"]
        assert one.model_max_length == (77 if one is not theirs else one.model_max_length)
