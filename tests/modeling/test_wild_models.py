"""Folders with code written for the peer load unchanged where the peer is not installed, and compute the same."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from wild_models import DECODER_CONFIG, IDS, WILD, Wild

import maquette
from maquette import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoTokenizer,
    RemoteCodeError,
    UntrustedCodeError,
)
from maquette.remote_code.requirements import is_installed
from maquette.remote_code.stand_in import stand_in

DERIVED = {"encoder of 2020": "embeddings.position_ids", "its masked head, tied": "pebble.embeddings.position_ids"}


def load(name: str, folder: Path, **options: Any) -> Any:
    WILD[name].write(folder)
    return getattr(maquette, WILD[name].auto_class).from_pretrained(folder, trust_remote_code=True, **options)


def inputs_of(wild: Wild) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(value, generator=generator) if isinstance(value, tuple) else torch.tensor(value)
        for name, value in wild.inputs.items()
    }


@pytest.mark.parametrize("name", WILD)
def test_it_loads_with_every_weight_where_the_file_says(name: str, tmp_path: Path) -> None:
    WILD[name].write(tmp_path / "wild")
    with pytest.raises(UntrustedCodeError, match="nothing of it was run"):
        getattr(maquette, WILD[name].auto_class).from_pretrained(tmp_path / "wild")
    model, info = load(name, tmp_path / "wild", output_loading_info=True)
    assert info["unexpected_keys"] == info["mismatched_keys"] == []
    assert info["missing_keys"] == ([DERIVED[name]] if name in DERIVED else [])
    state = model.state_dict()
    for key, value in WILD[name].tensors().items():
        assert torch.equal(state[key], value), key
    assert "transformers" not in sys.modules
    assert type(model).__module__.startswith("maquette_remote_")


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory, run_peer: Callable[..., str]) -> dict[str, Any]:
    """What the peer computes, in one process for all."""
    place = tmp_path_factory.mktemp("peer")
    jobs = []
    for number, (name, wild) in enumerate(WILD.items()):
        inputs = {key: value.tolist() for key, value in inputs_of(wild).items()}
        folder = str(wild.write(place / f"wild{number}"))
        options = {"use_cache": False} if "2023" in name else {}
        job = {"name": name, "folder": folder, "auto_class": wild.auto_class, "inputs": inputs, "options": options}
        jobs.append(job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAQUETTE_HOME", str(place / "maquette-home"))
        model = getattr(maquette, jobs[-1]["auto_class"]).from_pretrained(jobs[-1]["folder"], trust_remote_code=True)
        model.save_pretrained(place / "again")
    jobs.append({**jobs[-1], "name": "again", "folder": str(place / "again")})
    (place / "jobs.json").write_text(json.dumps(jobs))
    run_peer(Path(__file__).with_name("peer_wild_models.py"), "jobs.json", "found.json", cwd=place)
    found: dict[str, Any] = json.loads((place / "found.json").read_text())
    return found


@pytest.mark.parametrize("name", WILD)
def test_it_computes_what_the_peer_does(name: str, tmp_path: Path, computed: dict[str, Any]) -> None:
    assert not isinstance(computed[name], str), computed[name]
    with torch.no_grad():
        output = load(name, tmp_path / "wild")(**inputs_of(WILD[name]))[0]
    torch.testing.assert_close(output, torch.tensor(computed[name]), atol=1e-6, rtol=1e-6)


def test_the_peer_loads_what_is_saved_again(computed: dict[str, Any]) -> None:
    """With what a save notes beside the map."""
    assert computed["again"] == computed[list(WILD)[-1]]


@pytest.mark.parametrize("name", WILD)
def test_it_trains_and_saves_as_it_came(name: str, tmp_path: Path) -> None:
    """The same gradients with and without checkpointing, and a save that a fresh process loads, with the same code."""
    model = load(name, tmp_path / "wild").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    inputs = inputs_of(WILD[name])
    gradients = []
    for checkpointing in (False, True) if model.supports_gradient_checkpointing else (False,):
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.is_gradient_checkpointing
        model.zero_grad()
        torch.manual_seed(0)
        model(**inputs)[0].square().sum().backward()
        gradients.append({key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None})
    assert gradients[0]
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0])
    model.save_pretrained(tmp_path / "again")
    for file in (tmp_path / "wild").glob("*.py"):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    saved = json.loads((tmp_path / "again" / "config.json").read_text())
    assert saved["transformers_version"] == WILD[name].config["transformers_version"]
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in load_file(tmp_path / "again/model.safetensors").items())


def test_a_save_of_it_can_be_verified(tmp_path: Path) -> None:
    load("one file for images", tmp_path / "wild").save_pretrained(tmp_path / "again", verify=True)
    assert (tmp_path / "again" / "modeling_dune.py").is_file()


def test_ties_as_a_list_and_as_names(tmp_path: Path) -> None:
    older = load("its masked head, tied", tmp_path / "older")
    assert older.decoder.weight is older.pebble.embeddings.word_embeddings.weight
    newer = load("decoder of 2025", tmp_path / "newer")
    assert newer.lm_head.weight is newer.model.embed_tokens.weight
    newer.save_pretrained(tmp_path / "again")
    assert "lm_head.weight" not in load_file(tmp_path / "again" / "model.safetensors")
    untied = load("decoder of 2023", tmp_path / "untied")
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight


def test_a_class_says_by_an_annotation_what_configures_it(tmp_path: Path) -> None:
    model = load("decoder of 2025", tmp_path / "wild")
    assert type(model).config_class is type(model.config) and type(model.config).__name__ == "RillConfig"


def test_it_reads_on_where_it_stopped(tmp_path: Path) -> None:
    """Token by token with a cache, of the older form and of the newer, gives what all tokens at once give."""
    model = load("decoder of 2023", tmp_path / "wild")
    ids = torch.tensor([IDS[0]])
    cache_class = stand_in("transformers.cache_utils", ["DynamicCache"]).DynamicCache
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        for start in (None, cache_class()):
            past, steps = start, []
            for place in range(ids.shape[1]):
                output = model(input_ids=ids[:, place : place + 1], past_key_values=past, use_cache=True)
                past = output.past_key_values
                steps.append(output.logits)
            torch.testing.assert_close(torch.cat(steps, dim=1), whole)
            assert isinstance(past, tuple if start is None else cache_class)


def test_what_it_logs_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wild = WILD["decoder of 2023"]
    other = {**wild.files, "other.py": ""}  # code of a hash of its own, of which nothing was said yet
    folder = Wild(other, wild.config, wild.weights).write(tmp_path / "wild")
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).train()
    model.gradient_checkpointing_enable()
    for _ in range(3):
        model(input_ids=torch.tensor(IDS))
    said = [record.message for record in caplog.records if "incompatible with gradient checkpointing" in record.message]
    assert len(said) == 1


def test_text_is_generated_token_by_token(tmp_path: Path) -> None:
    """Code with a cache of Transformers' kind computes whole texts, and gives the tokens that these name."""
    model = load("decoder of 2025", tmp_path / "wild").eval()
    found = model.generate(torch.tensor(IDS), max_new_tokens=4, min_new_tokens=4, do_sample=False)
    for row, prompt in zip(found.tolist(), IDS, strict=True):
        ids = torch.tensor([[token for token in prompt if token != model.config.pad_token_id]])
        for _ in range(4):
            with torch.no_grad():
                logits = model(ids).logits[:, -1]
            logits[:, model.generation_config.end_tokens(model.config)] = -torch.inf
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
        assert row == prompt + ids[0, -4:].tolist()


def test_labels_aliases_and_nested_configurations(tmp_path: Path) -> None:
    config = load("one file for images", tmp_path / "images").config
    assert config.num_labels == 3 and config.id2label[1] == "dog"
    assert type(config.stem_config).__name__ == "StemConfig" and config.stem_config.width == 5
    config = load("decoder of 2023", tmp_path / "text").config
    assert (config.n_embd, config.n_layer) == (8, 2)
    assert (config.use_cache, config.tie_word_embeddings, config.eos_token_id) == (True, False, 2)
    assert config.keys_to_ignore_at_inference == ["past_key_values"] and config.dtype == "float32"


def test_registering_at_import_speaks_for_this_checkpoint_only(tmp_path: Path) -> None:
    """The file registers its classes; another folder of the same model type does not get them."""
    load("one file for images", tmp_path / "wild")
    content = {name: value for name, value in WILD["one file for images"].config.items() if name != "auto_map"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps(content))
    with pytest.raises(maquette.UnknownNameError, match="dune"):
        AutoConfig.from_pretrained(tmp_path / "other")


# What there is not --------------------------------------------------------------------------------------------------

LACKING = {
    "from transformers.models.llama.modeling_llama import LlamaRMSNorm, ACT2FN, LlamaAttention": (
        "takes LlamaRMSNorm, LlamaAttention from transformers.models.llama.modeling_llama"
    ),
    "from transformers import BitsAndBytesConfig": "takes BitsAndBytesConfig from transformers",
    "import transformers\nx = transformers.BitsAndBytesConfig": "takes BitsAndBytesConfig from transformers",
    "import transformers.trainer_utils as t\nx = t.EvalLoopOutput": (
        "takes EvalLoopOutput from transformers.trainer_utils"
    ),
    "from transformers.modeling_outputs import BaseModelOutputWithPats": "Did you mean .*'BaseModelOutputWithPast'",
}


@pytest.mark.parametrize("imported", LACKING)
def test_what_is_lacking_is_named_in_one_error(imported: str, tmp_path: Path) -> None:
    wild = Wild(
        {"configuration_brook.py": f"{imported}\n{WILD['decoder of 2023'].files['configuration_brook.py']}"},
        {**DECODER_CONFIG, "auto_map": {"AutoConfig": "configuration_brook.BrookConfig"}},
    )
    with pytest.raises((RemoteCodeError, AttributeError), match=LACKING[imported]) as refused:
        AutoConfig.from_pretrained(wild.write(tmp_path / "wild"), trust_remote_code=True)
    assert "transformers is not installed" in str(refused.value)
    assert str(tmp_path / "wild") in refused.value.__notes__[0]


def test_availability_is_told_as_it_is() -> None:
    for name, package in {"torch": "torch", "flash_attn_2": "flash_attn", "sentencepiece": "sentencepiece"}.items():
        function = f"is_{name}_available"
        assert getattr(stand_in("transformers.utils", [function]), function)() is is_installed(package)
    cuda = stand_in("transformers.utils", ["is_torch_cuda_available"]).is_torch_cuda_available()
    assert cuda is torch.cuda.is_available()


def test_every_name_that_is_offered_is_there() -> None:
    from maquette.remote_code.stand_in import PLACES

    for name in PLACES:
        assert getattr(stand_in("transformers", [name]), name) is not None
    assert stand_in("transformers.utils", ["logging"]).logging.get_logger("x").name == "x"


def test_small_functions_against_torch() -> None:
    """Each against what it is said to do, written down another way."""
    names = ["Conv1D", "apply_chunking_to_forward", "_prepare_4d_causal_attention_mask"]
    module = stand_in("transformers.pytorch_utils", names)
    layer, x = module.Conv1D(5, 3), torch.randn(2, 4, 3)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight.T, layer.bias))
    double = module.apply_chunking_to_forward(lambda y: 2 * y, 2, 1, x)
    assert torch.equal(double, 2 * x)
    padding = torch.tensor([[0, 1, 1, 1]])
    mask = module._prepare_4d_causal_attention_mask(padding, (1, 2), torch.zeros(1, 2, 3), 2, sliding_window=2)
    seen = [[bool(padding[0, k]) and 0 <= q + 2 - k < 2 for k in range(4)] for q in range(2)]
    assert (mask[0, 0] == 0).tolist() == seen and mask.shape == (1, 1, 2, 4)


# Tokenizers ---------------------------------------------------------------------------------------------------------

TOKENIZER = '''
"""Tokenization classes for Pebble."""
import collections
import os
from typing import List, Optional, Tuple

from transformers.tokenization_utils import AddedToken, PreTrainedTokenizer
from transformers.utils import logging

logger = logging.get_logger(__name__)

VOCAB_FILES_NAMES = {"vocab_file": "pebble.vocab"}
PRETRAINED_VOCAB_FILES_MAP = {"vocab_file": {"pebble-small": "https://example.org/pebble.vocab"}}
PRETRAINED_POSITIONAL_EMBEDDINGS_SIZES = {"pebble-small": 512}


def load_vocab(vocab_file):
    vocab = collections.OrderedDict()
    with open(vocab_file, "r", encoding="utf-8") as reader:
        for index, token in enumerate(reader.readlines()):
            vocab[token.rstrip("\\n")] = index
    return vocab


class PebbleTokenizer(PreTrainedTokenizer):
    vocab_files_names = VOCAB_FILES_NAMES
    pretrained_vocab_files_map = PRETRAINED_VOCAB_FILES_MAP
    max_model_input_sizes = PRETRAINED_POSITIONAL_EMBEDDINGS_SIZES
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, vocab_file, do_lower_case=True, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
                 pad_token="<pad>", add_bos_token=True, **kwargs):
        bos_token = AddedToken(bos_token, lstrip=False, rstrip=False) if isinstance(bos_token, str) else bos_token
        self.do_lower_case = do_lower_case
        self.add_bos_token = add_bos_token
        self.vocab_file = vocab_file
        self.vocab = load_vocab(vocab_file)
        self.ids_to_tokens = {index: token for token, index in self.vocab.items()}
        super().__init__(do_lower_case=do_lower_case, bos_token=bos_token, eos_token=eos_token, unk_token=unk_token,
                         pad_token=pad_token, add_bos_token=add_bos_token, **kwargs)

    @property
    def vocab_size(self):
        return len(self.vocab)

    def get_vocab(self):
        return dict(self.vocab, **self.added_tokens_encoder)

    def _tokenize(self, text):
        return (text.lower() if self.do_lower_case else text).split()

    def _convert_token_to_id(self, token):
        return self.vocab.get(token, self.vocab.get(self.unk_token))

    def _convert_id_to_token(self, index):
        return self.ids_to_tokens.get(index, self.unk_token)

    def convert_tokens_to_string(self, tokens):
        return " ".join(tokens).strip()

    def build_inputs_with_special_tokens(
        self, token_ids_0: List[int], token_ids_1: Optional[List[int]] = None
    ) -> List[int]:
        bos = [self.bos_token_id] if self.add_bos_token else []
        output = bos + token_ids_0 + [self.eos_token_id]
        return output if token_ids_1 is None else output + bos + token_ids_1 + [self.eos_token_id]

    def save_vocabulary(self, save_directory: str, filename_prefix: Optional[str] = None) -> Tuple[str]:
        path = os.path.join(save_directory, (filename_prefix + "-" if filename_prefix else "") + "pebble.vocab")
        with open(path, "w", encoding="utf-8") as writer:
            for token, _ in sorted(self.vocab.items(), key=lambda kv: kv[1]):
                writer.write(token + "\\n")
        return (path,)
'''
WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "round", "stone"]


@pytest.mark.parametrize("form", [["tokenization_pebble.PebbleTokenizer", None], "tokenization_pebble.PebbleTokenizer"])
@pytest.mark.parametrize("place", ["tokenizer_config.json", "config.json"])
def test_a_tokenizer_of_its_own(form: Any, place: str, tmp_path: Path) -> None:
    folder = tmp_path / "wild"
    WILD["encoder of 2020"].write(folder)
    settings = {"do_lower_case": True, "model_max_length": 16, "tokenizer_class": "PebbleTokenizer"}
    content = {"tokenizer_config.json": settings, "config.json": json.loads((folder / "config.json").read_text())}
    content[place].setdefault("auto_map", {})["AutoTokenizer"] = form
    for name, value in content.items():
        (folder / name).write_text(json.dumps(value))
    (folder / "tokenization_pebble.py").write_text(TOKENIZER)
    (folder / "pebble.vocab").write_text("\n".join(WORDS) + "\n")
    with pytest.raises(UntrustedCodeError, match=r"tokenization_pebble.py"):
        AutoTokenizer.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    batch = tokenizer(["A round stone", "stone wall"], padding=True)
    assert batch["input_ids"] == [[1, 4, 5, 6, 2], [1, 6, 3, 2, 0]]
    assert batch["attention_mask"] == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True) == "a round stone"
    tokenizer.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "tokenization_pebble.py").read_text() == TOKENIZER
    again = AutoTokenizer.from_pretrained(tmp_path / "again", trust_remote_code=True)
    assert type(again) is type(tokenizer) and again("A round stone")["input_ids"] == [1, 4, 5, 6, 2]


def test_versions_that_differ_are_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wild = WILD["decoder of 2025"]
    versions = {"code_requirements": {"torch": "torch==1.0.0", "maquette": f"maquette=={maquette.__version__}"}}
    folder = Wild(wild.files, {**wild.config, **versions}, wild.weights).write(tmp_path / "wild")
    with caplog.at_level(logging.INFO, "maquette.remote_code.requirements"):
        for _ in range(2):
            AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    lines = [record.message for record in caplog.records if "It was saved with torch 1.0.0 (here: " in record.message]
    assert len(lines) == 1 and "maquette" not in lines[0].partition("saved with")[2]


# Image processors ---------------------------------------------------------------------------------------------------

IMAGE_PROCESSOR = """
from typing import List, Optional, Union

import numpy as np
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    ImageInput,
    PILImageResampling,
    make_list_of_images,
    to_numpy_array,
)
from transformers.utils import TensorType, logging

logger = logging.get_logger(__name__)


class DuneImageProcessor(BaseImageProcessor):
    model_input_names = ["pixel_values"]

    def __init__(self, size=4, image_mean=None, image_std=None, resample=PILImageResampling.BICUBIC, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.resample = resample
        self.image_mean = image_mean if image_mean is not None else IMAGENET_STANDARD_MEAN
        self.image_std = image_std if image_std is not None else IMAGENET_STANDARD_STD

    def preprocess(
        self, images: ImageInput, return_tensors: Optional[Union[str, TensorType]] = None, **kwargs
    ) -> BatchFeature:
        arrays = []
        for image in make_list_of_images(images):
            image = image.convert("RGB").resize((self.size, self.size), self.resample)
            array = to_numpy_array(image).astype(np.float32) / 255
            arrays.append(((array - self.image_mean) / self.image_std).transpose(2, 0, 1).astype(np.float32))
        return BatchFeature(data={"pixel_values": arrays}, tensor_type=return_tensors)
"""


def test_an_image_processor_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "wild"
    folder.mkdir()
    auto_map = {"AutoImageProcessor": "image_processing_dune.DuneImageProcessor"}
    settings = {"auto_map": auto_map, "image_processor_type": "DuneImageProcessor", "size": 6, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "image_processing_dune.py").write_text(IMAGE_PROCESSOR)
    processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    image = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    pixels = np.asarray(image.resize((6, 6), Image.Resampling.BICUBIC)).transpose(2, 0, 1)[None]
    for given in (image, [image]):
        found = processor(given, return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(found, pixels / 127.5 - 1, atol=1e-6)
    processor.save_pretrained(tmp_path / "again", verify=True)
    assert (tmp_path / "again" / "image_processing_dune.py").read_text() == IMAGE_PROCESSOR
