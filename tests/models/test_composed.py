"""Models made of models compute what the peer computes, on either's weights, and generate the peer's ids."""

import copy
import json
from pathlib import Path

import pytest
import torch
from rounding import STEPS_OF_GRADIENTS, assert_near
from safetensors.torch import load_file, save_file

import maquette
from maquette import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    BertModel,
    ConfigurationError,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    InputError,
    LlamaConfig,
    SpeechEncoderDecoderModel,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)
from maquette.registry import built_in_cards
from maquette.testing import check_model

ROWS, WIDTH = 3, 26
TEXT = {"vocab_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
BERT = {**TEXT, "model_type": "bert", "hidden_size": 16, "max_position_embeddings": 18, "initializer_range": 0.4}
GPT2 = {"model_type": "gpt2", "vocab_size": 40, "n_embd": 12, "n_head": 3, "n_layer": 2, "n_positions": 16}
GPT2 |= {"bos_token_id": 39, "eos_token_id": 39, "initializer_range": 0.4}
VIT = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 12}
VIT |= {"patch_size": 4, "intermediate_size": 24, "initializer_range": 0.4}
CLIP = {**VIT, "model_type": "clip_vision_model", "num_hidden_layers": 3}
CLIP.pop("initializer_range")
LLAMA = {"model_type": "llama", "vocab_size": 40, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.4, "eos_token_id": 39}
SOUND = {**built_in_cards()["wav2vec2"].tiny, "model_type": "wav2vec2", "mask_time_prob": 0.0, "initializer_range": 0.3}
STARTS = {"decoder_start_token_id": 1, "pad_token_id": 0}
SHORT = {"do_sample": False, "max_new_tokens": 8}
GENERATION = {"greedy": SHORT, "beams": {**SHORT, "num_beams": 3}}


class Case:
    """Two parts, and what the model is given."""

    labels = {"labels": "labels"}  # noqa: RUF012
    outputs = ("logits", "encoder_last_hidden_state")

    def __init__(self, kind, encoder, decoder, **inputs):
        self.class_name, self.parts, self.inputs = kind, {"encoder": encoder, "decoder": decoder}, inputs

    @property
    def model_class(self):
        return getattr(maquette, self.class_name)

    def config(self):
        return self.model_class.config_class(**self.parts, **STARTS)

    generation = GENERATION
    options = {}  # noqa: RUF012

    def as_dict(self):
        more = {"generation": self.generation, "width": WIDTH, "fields": self.options}
        return {"class": self.class_name, "inputs": self.inputs, "labels": self.labels, "outputs": self.outputs, **more}


class TowerCase(Case):
    """A tower of images before a decoder."""

    outputs = ("logits", "image_hidden_states")

    def __init__(self, count, tower=VIT, **fields):
        self.tower = tower
        self.labels = {"labels": f"labels.{count}"}
        inputs = {"input_ids": f"prompts.{count}", "attention_mask": "mask.prompts", "pixel_values": "images"}
        super().__init__("LlavaForConditionalGeneration", tower, LLAMA, **inputs)
        self.fields = {"image_token_index": 38, "image_seq_length": count, **fields}

    def config(self):
        return maquette.LlavaConfig(vision_config=self.tower, text_config=LLAMA, **self.fields)


class PairCase(Case):
    """Images beside texts."""

    labels, generation, options = {}, {}, {"return_loss": True}
    outputs = ("logits_per_text", "text_embeds", "image_embeds")

    def __init__(self):
        inputs = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types", "pixel_values": "images"}
        super().__init__("VisionTextDualEncoderModel", VIT, BERT, **inputs)

    def config(self):
        return maquette.VisionTextDualEncoderConfig.from_vision_text_configs(VIT, BERT, projection_dim=7)


TEXTS = {"input_ids": "ids", "attention_mask": "mask"}
CASES = {
    "bert2bert": Case("EncoderDecoderModel", BERT, BERT, **TEXTS),
    "bert2gpt2": Case("EncoderDecoderModel", BERT, GPT2, **TEXTS),
    "vit2gpt2": Case("VisionEncoderDecoderModel", VIT, GPT2, pixel_values="images"),
    "vit2bert": Case("VisionEncoderDecoderModel", VIT, BERT, pixel_values="images"),
    "vit2llama": TowerCase(9),
    "vit2llama, several layers": TowerCase(
        10, vision_feature_layer=[-2, 1], vision_feature_select_strategy="full", multimodal_projector_bias=False
    ),
    "clip2llama": TowerCase(9, CLIP),  # as LLaVA 1.5 is
    "clip2llama, several layers": TowerCase(
        10, CLIP, vision_feature_layer=[-3, -1], vision_feature_select_strategy="full"
    ),
    "vit beside bert": PairCase(),
    "sound2bert": Case("SpeechEncoderDecoderModel", SOUND, BERT, input_values="sounds", attention_mask="samples"),
}


def make_inputs() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    labels = torch.randint(3, 39, (ROWS, 6))
    labels[1, 3:] = labels[2, 5:] = -100
    mask = (torch.arange(9) < torch.tensor([9, 4, 6])[:, None]).long()
    prompts, starts, told = torch.randint(3, 38, (ROWS, 16)), (2, 5, 1), {}
    prompts_mask = (torch.arange(16) >= torch.tensor([0, 3, 1])[:, None]).long()
    for count in (9, 10):  # features of an image, without CLS and with it
        told[f"prompts.{count}"] = prompts.clone()
        for row, start in enumerate(starts):
            told[f"prompts.{count}"][row, start : start + count] = 38
        is_told = (told[f"prompts.{count}"] != 38) & (prompts_mask.cumsum(1) > 1)
        told[f"labels.{count}"] = prompts.masked_fill(~is_told, -100)
    return {
        **told,
        "mask.prompts": prompts_mask,
        "ids": torch.randint(3, 39, (ROWS, 9)) * mask,
        "mask": mask,
        "types": torch.randint(0, 2, (ROWS, 9)),
        "images": torch.randn(ROWS, 3, 12, 12),
        "sounds": torch.randn(ROWS, 300),
        "samples": (torch.arange(300) < torch.tensor([300, 170, 240])[:, None]).long(),
        "labels": labels,
    }


@pytest.fixture(scope="module")
def exchange(tmp_path_factory, run_peer):
    """A folder through which both libraries went: our models, theirs, and what the peer computes with each."""
    folder = tmp_path_factory.mktemp("composed")
    (folder / "results").mkdir()
    save_file(make_inputs(), folder / "inputs.safetensors")
    about = {name: case.as_dict() for name, case in CASES.items()}
    (folder / "cases.json").write_text(json.dumps(about), encoding="utf-8")
    for name, case in CASES.items():
        torch.manual_seed(0)
        case.model_class(case.config()).save_pretrained(folder / "ours" / name)
    run_peer(Path(__file__).parent / "peer_composed.py", folder)
    return folder


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_peer(exchange, name, whose):
    case, inputs = CASES[name], make_inputs()
    expected = load_file(exchange / "results" / f"{whose}-{name}.safetensors")
    model = case.model_class.from_pretrained(exchange / whose / name)
    given = {key: inputs[value] for key, value in case.inputs.items()}
    output = model(**given, **{key: inputs[value] for key, value in case.labels.items()}, **case.options)
    output.loss.backward()
    assert_near(output.loss, expected["loss"])
    if case.labels:
        real = inputs[case.labels["labels"]] != -100
        assert_near(output.logits[real], expected["logits"][real])
    for key in case.outputs[1:] if case.labels else case.outputs:
        if "attention_mask" not in given or not key.startswith("encoder"):
            assert_near(output[key], expected[key].view_as(output[key]))
    gradients = {key[5:]: value for key, value in expected.items() if key.startswith("grad.")}
    found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    if "vit" in name:  # the peer has renamed ViT's modules, and reads the published names
        gradients = {key: value for key, value in gradients.items() if key in found}
        assert {
            key for key in found if not key.startswith(("encoder.", "model.vision_tower.", "vision_model."))
        } <= gradients.keys()
    assert "vit" in name or found.keys() == gradients.keys()
    for key, value in gradients.items():
        assert_near(found[key], value, key, among=gradients.values(), steps=STEPS_OF_GRADIENTS, least=0.0)
    for setting, options in case.generation.items():
        ids = model.generate(**given, **options)
        assert [*map(until_end, ids.tolist())] == [*map(until_end, expected[f"ids.{setting}"].tolist())], setting


def until_end(row):
    """Leave out what pads a row behind its end token, or to the width of the file."""
    row = row[: row.index(39)] if 39 in row else row
    return row[: max(place for place, token in enumerate(row) if token) + 1]


def small(name="bert2gpt2"):
    torch.manual_seed(0)
    return CASES[name].model_class(CASES[name].config()).eval()


def test_the_kit_passes() -> None:
    report = check_model(EncoderDecoderModel, CASES["bert2bert"].config(), only=["resizing", "ties", "half_precision"])
    assert not report.failed


def test_parts_come_from_folders_of_their_own(tmp_path) -> None:
    """Their weights stay, what lets the decoder look is new, and the configurations that are given stay as they are."""
    torch.manual_seed(0)
    encoder, decoder = BertModel(BertConfig(**BERT)), BertLMHeadModel(BertConfig(**BERT, is_decoder=True))
    encoder.save_pretrained(tmp_path / "encoder")
    decoder.save_pretrained(tmp_path / "decoder")
    folders = (tmp_path / "encoder", tmp_path / "decoder")
    model = EncoderDecoderModel.from_encoder_decoder_pretrained(*folders, **STARTS, decoder_dtype=torch.bfloat16)
    assert not model.training and model.config.decoder_start_token_id == 1
    assert model.encoder.dtype == torch.float32 and model.decoder.dtype == torch.bfloat16
    assert torch.equal(model.encoder.embeddings.word_embeddings.weight, encoder.embeddings.word_embeddings.weight)
    assert model.decoder.config is model.config.decoder and model.config.decoder.add_cross_attention
    assert not decoder.config.add_cross_attention
    ids = make_inputs()["ids"]
    expected = model(ids, decoder_input_ids=ids).logits
    assert expected.dtype == torch.bfloat16
    model.save_pretrained(tmp_path / "both")
    again = EncoderDecoderModel.from_pretrained(tmp_path / "both")
    assert (again.encoder.dtype, again.decoder.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(again(ids, decoder_input_ids=ids).logits, expected)
    handed = EncoderDecoderModel(encoder=again.encoder, decoder=again.decoder)
    assert handed.encoder is again.encoder and handed.config.encoder is again.encoder.config


def test_one_configuration_serves_both_parts() -> None:
    config = BertConfig(**BERT)
    before = copy.deepcopy(config)
    found = EncoderDecoderConfig.from_encoder_decoder_configs(config, config)
    assert config == before and not found.encoder.is_decoder and found.decoder.is_decoder


def test_the_encoder_runs_once_and_padding_changes_nothing(monkeypatch) -> None:
    model, inputs, read = small(), make_inputs(), []
    forward = type(model.encoder).forward

    def note(self, input_ids, *args, **options):
        read.append(len(input_ids))
        return forward(self, input_ids, *args, **options)

    monkeypatch.setattr(type(model.encoder), "forward", note)
    found = model.generate(inputs["ids"], attention_mask=inputs["mask"], max_new_tokens=5, num_beams=2)
    assert sum(read) == ROWS
    for row in range(ROWS):
        text = inputs["ids"][row, inputs["mask"][row].bool()][None]
        alone = model.generate(text, max_new_tokens=5, num_beams=2)[0]
        assert found[row, : len(alone)].tolist() == alone.tolist()


def test_what_the_encoder_gave_may_be_handed_on() -> None:
    model, inputs = small("sound2bert"), make_inputs()
    given = {"decoder_input_ids": inputs["ids"][:, :4], "attention_mask": inputs["samples"]}
    expected = model(inputs["sounds"], **given)
    states = expected.encoder_last_hidden_state
    assert_near(model(encoder_outputs=states, **given).logits, expected.logits)
    assert_near(model(input_features=inputs["sounds"], **given).logits, expected.logits)


def test_what_does_not_fit_is_one_error_that_names_the_part() -> None:
    config, images = BertConfig(**BERT), ViTModel(ViTConfig(**{k: v for k, v in VIT.items() if k != "model_type"}))
    model = small("bert2bert")
    with pytest.raises(InputError, match="encoder is a BertForMaskedLM, which scores a vocabulary"):
        EncoderDecoderModel(encoder=BertForMaskedLM(config), decoder=model.decoder)
    with pytest.raises(
        InputError, match="encoder is a ViTModel, which reads pixel_values; what belongs there reads input_ids"
    ):
        EncoderDecoderModel(encoder=images, decoder=model.decoder)
    with pytest.raises(InputError, match="encoder is a BertModel, which reads input_ids"):
        VisionEncoderDecoderModel(encoder=model.encoder, decoder=model.decoder)
    with pytest.raises(InputError, match="encoder is a BertModel"):
        SpeechEncoderDecoderModel(encoder=model.encoder, decoder=model.decoder)
    with pytest.raises(InputError, match="decoder is None"):
        EncoderDecoderModel(encoder=model.encoder)
    with pytest.raises(InputError, match="decoder is a BertLMHeadModel that was made without add_cross_attention"):
        EncoderDecoderModel(encoder=model.encoder, decoder=BertLMHeadModel(config))
    llama = LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(InputError, match="decoder is a LlamaForCausalLM, which looks at no other model"):
        EncoderDecoderModel(EncoderDecoderConfig(encoder=config, decoder=llama))
    with pytest.raises(InputError, match=r"encoder is a ViTModel \('vit'\), and config.encoder is of 'bert'"):
        EncoderDecoderModel(model.config, encoder=images)
    with pytest.raises(ConfigurationError, match=r"encoder: Unknown model type 'brt'\. Did you mean"):
        EncoderDecoderConfig(encoder={"model_type": "brt"}, decoder=config)
    with pytest.raises(ConfigurationError, match="decoder: needs a value"):
        EncoderDecoderConfig(encoder=config)
    with pytest.raises(ConfigurationError, match="tie_encoder_decoder=True"):
        EncoderDecoderConfig(encoder=config, decoder=config, tie_encoder_decoder=True)
    with pytest.raises(InputError, match="no decoder: name its folder"):
        EncoderDecoderModel.from_encoder_decoder_pretrained(encoder_model=model.encoder)
    model.config.decoder_start_token_id = None
    ids = make_inputs()["ids"]
    with pytest.raises(ValueError, match="decoder_start_token_id=None"):
        model(ids, labels=ids)
    with pytest.raises(ValueError, match="decoder has nothing to read"):
        model(ids)
    with pytest.raises(InputError, match="decoder has no token to begin with"):
        model.generate(ids)


def test_gpt2_alone_looks_at_nothing() -> None:
    plain = maquette.GPT2LMHeadModel(GPT2Config(**{k: v for k, v in GPT2.items() if k != "model_type"}))
    ids = make_inputs()["ids"]
    with pytest.raises(ValueError, match="has no cross-attention: add_cross_attention=True"):
        plain(ids, encoder_hidden_states=torch.zeros(ROWS, 2, 12))


# Images beside texts -----------------------------------------------------------------------------------------------


def test_two_encoders_come_from_folders_of_their_own(tmp_path) -> None:
    torch.manual_seed(0)
    images, texts = (
        ViTModel(ViTConfig(**{k: v for k, v in VIT.items() if k != "model_type"})),
        BertModel(BertConfig(**BERT)),
    )
    images.save_pretrained(tmp_path / "images")
    texts.save_pretrained(tmp_path / "texts")
    kind = maquette.VisionTextDualEncoderModel
    model = kind.from_vision_text_pretrained(tmp_path / "images", tmp_path / "texts", projection_dim=5)
    assert torch.equal(model.text_model.pooler.dense.weight, texts.pooler.dense.weight)
    assert torch.equal(model.vision_model.pooler.dense.weight, images.pooler.dense.weight)
    assert model.visual_projection.out_features == 5 and model.text_model.config is model.config.text_config
    with pytest.raises(InputError, match="vision_model is a BertModel, which reads input_ids"):
        kind(vision_model=texts, text_model=texts)
    with pytest.raises(InputError, match="text_model is None"):
        kind(vision_model=images)
    with pytest.raises(InputError, match="no text_model: name its folder"):
        kind.from_vision_text_pretrained(tmp_path / "images")
    pooled = kind(
        vision_model=images, text_model=maquette.DistilBertModel(maquette.DistilBertConfig(dim=16, n_heads=4))
    )
    with pytest.raises(InputError, match="text_model is a DistilBertModel, which gives no pooler_output"):
        pooled(make_inputs()["ids"], make_inputs()["images"])
    inputs = {"input_ids": make_inputs()["ids"], "pixel_values": make_inputs()["images"]}
    with pytest.raises(TypeError, match="token_type_idz"):
        model(**inputs, token_type_idz=make_inputs()["ids"])


# Images in texts ---------------------------------------------------------------------------------------------------


def test_rows_may_have_any_number_of_images() -> None:
    """Each row gives what it gives alone with its own images, one after the other, whatever waits."""
    model, images = small("vit2llama"), make_inputs()["images"]
    mark = [38] * 9
    rows, owned = [[5, *mark, 6, *mark], [7, 8, 9], [4, *mark]], (images[:2], None, images[2:])
    found = model.generate(rows, pixel_values=images, max_new_tokens=5, max_rows=2)
    for row, own in zip(range(3), owned, strict=True):
        alone = model.generate([rows[row]], max_new_tokens=5, **({} if own is None else {"pixel_values": own}))
        new = alone[0, len(rows[row]) :]
        assert found[row, 20 : 20 + len(new)].tolist() == new.tolist()


def test_published_names_are_read(tmp_path) -> None:
    model = small("vit2llama")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {name.replace("model.language_model.", "language_model.model."): value for name, value in weights.items()}
    renamed = {
        name.removeprefix("model.").replace("lm_head", "language_model.lm_head"): v for name, v in renamed.items()
    }
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_images_and_their_tokens_belong_together() -> None:
    model, inputs = small("vit2llama"), make_inputs()
    prompts, images = inputs["prompts.9"], inputs["images"]
    with pytest.raises(ValueError, match="27 image tokens, and there are no pixel_values"):
        model(prompts)
    with pytest.raises(ValueError, match="27 image tokens, and 2 images make 18 features"):
        model(prompts, pixel_values=images[:2])
    with pytest.raises(ValueError, match="0 image tokens, and 3 images make 27 features"):
        model(torch.ones_like(prompts), pixel_values=images)
    with pytest.raises(ValueError, match="pixel_values came with inputs_embeds"):
        model(inputs_embeds=torch.zeros(ROWS, 4, 12), pixel_values=images)
    with pytest.raises(InputError, match="which 2 images cannot share equally"):
        model.generate(prompts, pixel_values=images[:2])
    with pytest.raises(InputError, match="vision_tower is a BertModel, which reads input_ids"):
        maquette.LlavaForConditionalGeneration(maquette.LlavaConfig(vision_config=BERT, text_config=LLAMA))
    with pytest.raises(ConfigurationError, match="vision_config: no model_type"):
        maquette.LlavaConfig.from_dict({"vision_config": {"hidden_size": 3}, "text_config": LLAMA})


def make_processor(**settings):
    from tokenizers import Tokenizer, models, pre_tokenizers

    from maquette import LlavaProcessor, PreTrainedTokenizerFast, ViTImageProcessor

    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "<image>", "what", "is", "this"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "additional_special_tokens": ["<image>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    return LlavaProcessor(ViTImageProcessor(size={"height": 12, "width": 8}), tokenizer, **settings)


def test_a_processor_puts_in_as_many_tokens_as_there_are_features(tmp_path) -> None:
    import numpy as np

    settings = {"patch_size": 4, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = make_processor(**settings)
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    processor.save_pretrained(tmp_path)
    for each in (processor, maquette.AutoProcessor.from_pretrained(tmp_path)):
        batch = each([image, image], ["what is <image>", "<image> this"], padding=True, return_tensors="pt")
        assert batch["pixel_values"].shape == (2, 3, 12, 8)
        expected = [[3, 4, *[2] * 6], [*[2] * 6, 5, 0]]  # 3 rows of 2 patches, and CLS left out
        assert batch["input_ids"].tolist() == expected and batch["attention_mask"].sum() == 15
    with pytest.raises(InputError, match="have 1 marks '<image>', and there are 2 images"):
        processor([image, image], "<image>")
    with pytest.raises(ConfigurationError, match="needs patch_size"):
        make_processor()(image, "<image>")
    with pytest.raises(ConfigurationError, match="LlavaProcessor needs tokenizer"):
        maquette.LlavaProcessor(processor.image_processor)
