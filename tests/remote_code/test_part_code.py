"""Models made of models whose parts are somebody's own: their code goes along, and comes back by the trust of one call.

The user's classes are written into folders and imported from there; nothing is registered with an AutoClass, so every
load goes by what the folder brings.
"""

import importlib
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_client import connect
from huggingface_hub import close_session
from loopback_hub import LoopbackHub

from maquette import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    BertConfig,
    BertModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PretrainedConfig,
    RemoteCodeError,
    SaveError,
    UntrustedCodeError,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    VisionTextDualEncoderModel,
)

TOWER = {
    "configuration.py": """
from maquette import PretrainedConfig


class PixelTowerConfig(PretrainedConfig):
    model_type = "pixel-tower"
    hidden_size: int = 16
    image_size: int = 8
    num_channels: int = 3
""",
    "modeling.py": """
from torch import nn

from maquette import PreTrainedModel
from maquette.modeling.outputs import BaseModelOutputWithPooling

from .configuration import PixelTowerConfig


class PixelTower(PreTrainedModel):
    config_class = PixelTowerConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.rows = nn.Linear(config.image_size * config.num_channels, config.hidden_size)

    def forward(self, pixel_values, output_attentions=None, output_hidden_states=None, return_dict=None):
        states = self.rows(pixel_values.transpose(1, 2).flatten(2))
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=states.mean(1))
""",
}
TEXT = {
    "configuration.py": """
from maquette import BertConfig


class LoudConfig(BertConfig):
    model_type = "loud"
    loudness: float = 2.0
""",
    "modeling.py": """
from maquette import BertLMHeadModel, BertModel

from .configuration import LoudConfig


class Loud(BertModel):
    config_class = LoudConfig


class LoudLM(BertLMHeadModel):
    config_class = LoudConfig
""",
}
WHOLE = """
from maquette import AutoModel, PretrainedConfig, PreTrainedModel
from {tower}.configuration import PixelTowerConfig


class PairConfig(PretrainedConfig):
    model_type = "pair-of-mine"
    tower: PixelTowerConfig
    text: PretrainedConfig
    more: list[PretrainedConfig] = []


class Pair(PreTrainedModel):
    config_class = PairConfig

    def __init__(self, config):
        super().__init__(config)
        self.tower = AutoModel.from_config(config.tower)
        self.text = AutoModel.from_config(config.text)
        self.more = AutoModel.from_config(config.more[0]) if config.more else None

    def forward(self, input_ids, pixel_values):
        return self.text(input_ids)
"""
SMALL = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 24, "max_position_embeddings": 20}
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client's own making
IDS = {"decoder_start_token_id": 1, "pad_token_id": 0}


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Give a function that writes a package of the user's and imports its modules."""
    before = set(sys.modules)
    monkeypatch.setenv("MAQUETTE_HOME", str(tmp_path / "approvals"))
    monkeypatch.chdir(tmp_path)

    def make(package: str, contents: dict[str, str], *, root: str = "user", names: str = "") -> Any:
        place = tmp_path / root
        monkeypatch.syspath_prepend(str(place))
        for name, content in {"__init__.py": "", **contents}.items():
            (place / package).mkdir(parents=True, exist_ok=True)
            (place / package / name).write_text(content, encoding="utf-8")
        importlib.invalidate_caches()
        wanted = [name.split(".") for name in names.split()]
        return [getattr(importlib.import_module(f"{package}.{module}"), name) for module, name in wanted]

    yield make
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith("of_mine_"):
            del sys.modules[name]


@pytest.fixture
def tower(user: Callable[..., Any]) -> Any:
    config_class, model_class = user("of_mine_tower", TOWER, names="configuration.PixelTowerConfig modeling.PixelTower")
    config_class.register_for_auto_class()
    model_class.register_for_auto_class()
    torch.manual_seed(0)
    return model_class(config_class())


@pytest.fixture
def loud(user: Callable[..., Any]) -> Any:
    """Give the base model and the causal one of somebody's texts, from another folder than the tower."""
    names = "configuration.LoudConfig modeling.Loud modeling.LoudLM"
    config_class, base, causal = user("of_mine_loud", TEXT, root="elsewhere", names=names)
    config_class.register_for_auto_class()
    base.register_for_auto_class()
    causal.register_for_auto_class("AutoModelForCausalLM")
    looking = config_class(**SMALL, is_decoder=True, add_cross_attention=True)
    return base(config_class(**SMALL)), causal(looking)


def python_files(folder: str | Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.py"))


def contents(folder: str | Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def forget(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be somebody who approved nothing."""
    monkeypatch.setenv("MAQUETTE_HOME", str(home))


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_code_of_a_part_goes_along_and_a_fresh_process_loads_it(tower: Any, run_fresh, tmp_path: Path) -> None:
    """Two parts of ours and the user's: untrusted, nothing runs and the part is named; trusted, all is there."""
    joined = VisionTextDualEncoderModel(vision_model=tower, text_model=BertModel(BertConfig(**SMALL)))
    joined.save_pretrained("saved", verify=True)
    assert python_files("saved") == ["configuration.py", "modeling.py"]
    config = json.loads(Path("saved/config.json").read_text())
    assert "auto_map" not in config and "auto_map" not in config["text_config"]
    assert config["vision_config"]["auto_map"] == {
        "AutoConfig": "configuration.PixelTowerConfig",
        "AutoModel": "modeling.PixelTower",
    }
    assert sorted(config["vision_config"]["code_requirements"]) == ["maquette", "torch"]
    assert not tower.config.auto_map  # what the user holds stays as it is
    torch.save(joined.state_dict(), "weights.pt")
    with Path("saved/modeling.py").open("a", encoding="utf-8") as file:
        file.write("\nprint('the code ran')\n")
    code = """
        import torch
        from maquette import AutoConfig, AutoModel, PretrainedConfig, UntrustedCodeError, VisionTextDualEncoderModel

        for loader in (AutoConfig, AutoModel, VisionTextDualEncoderModel):
            try:
                loader.from_pretrained("saved")
            except UntrustedCodeError as error:
                print(error)
        assert PretrainedConfig.from_pretrained("saved").extra["vision_config"]["model_type"] == "pixel-tower"
        print("now trusted")
        for loader in (VisionTextDualEncoderModel, AutoModel):
            loaded = loader.from_pretrained("saved", trust_remote_code=True)
            weights = torch.load("weights.pt")
            assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
        loaded.save_pretrained("again")
    """
    output = run_fresh(textwrap.dedent(code), cwd=tmp_path, env={"MAQUETTE_HOME": str(tmp_path / "nobody")})
    before, _, after = output.partition("now trusted")
    assert before.count("vision_config (model type 'pixel-tower'): 'saved' brings its own code") == 3
    assert "the code ran" not in before and after.count("the code ran") == 1
    assert contents("again") == contents("saved")


def test_the_same_names_of_files_in_two_parts(tower: Any, loud: Any, tmp_path: Path, monkeypatch) -> None:
    """The second part's files get a folder of their own, also where parts come from saves; saving again moves none."""
    _, decoder = loud
    joined = VisionEncoderDecoderModel(encoder=tower, decoder=decoder)
    joined.save_pretrained("saved", verify=True)
    moved = "part_decoder"
    expected = ["configuration.py", "modeling.py", f"{moved}/configuration.py", f"{moved}/modeling.py"]
    assert python_files("saved") == expected
    config = json.loads(Path("saved/config.json").read_text())
    assert config["decoder"]["auto_map"]["AutoModelForCausalLM"] == f"{moved}.modeling.LoudLM"
    forget(tmp_path / "nobody", monkeypatch)
    loaded = AutoModelForImageTextToText.from_pretrained("saved", trust_remote_code=True)
    names = [type(part).__name__ for part in (loaded, loaded.encoder, loaded.decoder)]
    assert names == ["VisionEncoderDecoderModel", "PixelTower", "LoudLM"] and same(loaded, joined)
    loaded.save_pretrained("again", verify=True)
    assert contents("again") == contents("saved")

    tower.save_pretrained("tower")
    decoder.save_pretrained("decoder")
    forget(tmp_path / "nobody else", monkeypatch)
    trust = {"encoder_trust_remote_code": True, "decoder_trust_remote_code": True}
    join = VisionEncoderDecoderModel.from_encoder_decoder_pretrained
    with pytest.raises(UntrustedCodeError, match="'tower' brings its own code"):
        join("tower", "decoder", decoder_trust_remote_code=True, **IDS)
    rejoined = join("tower", "decoder", **trust, **IDS)
    rejoined.save_pretrained("rejoined", verify=True)
    assert python_files("rejoined") == expected
    pixels = torch.randn(2, 3, 8, 8)
    assert torch.equal(rejoined.generate(pixels, max_new_tokens=3), loaded.generate(pixels, max_new_tokens=3, **IDS))


def test_what_was_approved_is_the_whole_of_the_code(tower: Any, tmp_path: Path, monkeypatch) -> None:
    joined = VisionTextDualEncoderModel(vision_model=tower, text_model=BertModel(BertConfig(**SMALL)))
    joined.save_pretrained("saved")
    assert AutoConfig.from_pretrained("saved", trust_remote_code=True) is not None  # what one saved oneself
    forget(tmp_path / "nobody", monkeypatch)
    with pytest.raises(UntrustedCodeError) as refused:
        AutoConfig.from_pretrained("saved")
    pin = str(refused.value).split('"')[1]
    assert AutoModel.from_pretrained("saved", trust_remote_code=pin).config == joined.config.__replace__(
        architectures=["VisionTextDualEncoderModel"], dtype="float32"
    )
    with Path("saved/modeling.py").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    with pytest.raises(UntrustedCodeError, match=r"(?s)vision_config .*modeling.py was changed"):
        AutoConfig.from_pretrained("saved", trust_remote_code=True)
    with pytest.raises(UntrustedCodeError, match="not the one you pinned"):
        AutoConfig.from_pretrained("saved", trust_remote_code=pin)


def test_a_map_that_names_another_class_of_approved_code_is_a_change(tower: Any) -> None:
    joined = VisionTextDualEncoderModel(vision_model=tower, text_model=BertModel(BertConfig(**SMALL)))
    joined.save_pretrained("saved")
    file = Path("saved/config.json")
    file.write_text(file.read_text().replace("configuration.PixelTowerConfig", "modeling.PixelTowerConfig"))
    with pytest.raises(UntrustedCodeError, match=r"names 'modeling.PixelTowerConfig' for AutoConfig"):
        AutoConfig.from_pretrained("saved", trust_remote_code=True)


def test_a_combination_of_ones_own_with_parts_of_ones_own(tower: Any, loud: Any, user, tmp_path, monkeypatch) -> None:
    """One folder of code for what lies in one folder; parts in lists too; each AutoClass finds the part's class."""
    whole = {"modeling.py": WHOLE.format(tower="of_mine_tower")}
    config_class, model_class = user("of_mine_pair", whole, names="modeling.PairConfig modeling.Pair")
    config_class.register_for_auto_class()
    model_class.register_for_auto_class()
    for config in (tower.config, loud[0].config):
        AutoModel.register(type(config), type(tower if config is tower.config else loud[0]), exist_ok=True)
    text = loud[0].config
    model = model_class(config_class(tower=tower.config, text=text, more=[tower.config]))
    model.save_pretrained("saved", verify=True)
    assert [name for name in python_files("saved") if "tower" in name] == [
        "of_mine_tower/__init__.py",
        "of_mine_tower/configuration.py",
        "of_mine_tower/modeling.py",
    ]
    config = json.loads(Path("saved/config.json").read_text())
    assert config["auto_map"]["AutoModel"].endswith("modeling.Pair")
    assert config["more"][0]["auto_map"] == config["tower"]["auto_map"]
    forget(tmp_path / "nobody", monkeypatch)
    loaded = AutoModel.from_pretrained("saved", trust_remote_code=True)
    assert [type(part).__name__ for part in (loaded, loaded.tower, loaded.text, loaded.more)] == [
        "Pair",
        "PixelTower",
        "Loud",
        "PixelTower",
    ]
    assert same(loaded, model) and type(loaded.text) is not type(loud[0])


def test_a_part_whose_code_cannot_move_is_refused_and_nothing_is_saved(tower: Any, user) -> None:
    """Files of the same names, where one spells another by its name from the top."""
    spelt = {name: text.replace("from .configuration", "from configuration") for name, text in TEXT.items()}
    Path("loose").mkdir()
    for name, text in spelt.items():
        Path("loose", name).write_text(text)
    Path("loose/config.json").write_text(
        json.dumps(
            {
                **SMALL,
                "model_type": "loud",
                "is_decoder": True,
                "add_cross_attention": True,
                "auto_map": {"AutoConfig": "configuration.LoudConfig", "AutoModelForCausalLM": "modeling.LoudLM"},
            }
        )
    )
    config = AutoConfig.from_pretrained("loose", trust_remote_code=True)
    joined = VisionEncoderDecoderModel(VisionEncoderDecoderConfig(encoder=tower.config, decoder=config), encoder=tower)
    with pytest.raises(SaveError, match=r"file 'configuration.py', and the files differ"):
        joined.save_pretrained("saved")
    assert not Path("saved").exists()


def test_a_part_without_its_model_is_named(tower: Any, tmp_path: Path, monkeypatch) -> None:
    joined = VisionTextDualEncoderModel(vision_model=tower, text_model=BertModel(BertConfig(**SMALL)))
    joined.save_pretrained("saved")
    file = Path("saved/config.json")
    content = json.loads(file.read_text())
    content["vision_config"]["auto_map"]["AutoConfig"] = "configuration.Missing"
    file.write_text(json.dumps(content))
    forget(tmp_path / "nobody", monkeypatch)
    with pytest.raises(RemoteCodeError, match=r"vision_config .*defines no Missing"):
        AutoConfig.from_pretrained("saved", trust_remote_code=True)


def test_changed_fields_keep_the_part(tower: Any) -> None:
    """Overrides, copies and dictionaries of a configuration whose part nobody registered."""
    joined = VisionTextDualEncoderModel(vision_model=tower, text_model=BertModel(BertConfig(**SMALL)))
    joined.save_pretrained("saved")
    wider = joined.config.__replace__(projection_dim=7)
    assert type(wider.vision_config) is type(tower.config) and wider.projection_dim == 7
    read = AutoConfig.from_pretrained("saved", trust_remote_code=True, vision_config={"hidden_size": 24})
    assert (read.vision_config.hidden_size, type(read.vision_config).__name__) == (24, "PixelTowerConfig")
    loaded = AutoModel.from_pretrained("saved", trust_remote_code=True, logit_scale_init_value=1.0)
    assert loaded.config.logit_scale_init_value == 1.0 and type(loaded.vision_model).__name__ == "PixelTower"


def test_in_front_of_a_decoder(tower: Any, tmp_path: Path, monkeypatch) -> None:
    text = {"model_type": "llama", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "intermediate_size": 16}
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=text,
        image_token_index=39,
        vision_feature_layer=None,
        vision_feature_select_strategy="full",
    )
    model = LlavaForConditionalGeneration(config, vision_tower=tower)
    model.save_pretrained("saved", verify=True)
    forget(tmp_path / "nobody", monkeypatch)
    with pytest.raises(UntrustedCodeError, match="vision_config"):
        LlavaForConditionalGeneration.from_pretrained("saved")
    assert same(LlavaForConditionalGeneration.from_pretrained("saved", trust_remote_code=True), model)


def test_on_the_hub(tower: Any, tmp_path: Path, monkeypatch) -> None:
    """Pushed with the part's code; and a part whose code lies in a repository of its own."""
    joined = VisionTextDualEncoderModel(vision_model=tower, text_model=BertModel(BertConfig(**SMALL)))
    with LoopbackHub() as hub:
        hub.add_account("ada", "hf_ada")
        connect(hub, tmp_path / "cache", monkeypatch, token="hf_ada")
        joined.push_to_hub("pair")
        assert {"configuration.py", "modeling.py"} <= hub.head("ada/pair").files.keys()
        assert "trust_remote_code=True" in hub.head("ada/pair").files["README.md"].data.decode()
        with pytest.raises(UntrustedCodeError, match=r"vision_config .*'ada/pair' brings its own code"):
            AutoModel.from_pretrained("ada/pair")
        assert same(AutoModel.from_pretrained("ada/pair", trust_remote_code=True), joined)

        tower.push_to_hub("tower")
        joined.save_pretrained("saved")
        for name in python_files("saved"):
            Path("saved", name).unlink()
        file = Path("saved/config.json")
        content = json.loads(file.read_text())
        part = content["vision_config"]
        part["auto_map"] = {auto: f"ada/tower--{ref}" for auto, ref in part["auto_map"].items()}
        file.write_text(json.dumps(content))
        forget(tmp_path / "nobody", monkeypatch)
        with pytest.raises(UntrustedCodeError, match=r"vision_config .*'ada/tower', which needs an approval"):
            AutoModel.from_pretrained("saved", trust_remote_code=True)
        AutoConfig.from_pretrained("ada/tower", trust_remote_code=True)  # this is one
        loaded = AutoModel.from_pretrained("saved", trust_remote_code=True)
        assert same(loaded, joined)
        loaded.save_pretrained("own", verify=True)
        assert python_files("own") == ["configuration.py", "modeling.py"]
    close_session()


def test_a_part_nobody_registered_brings_nothing(user) -> None:
    """As with any model: without `register_for_auto_class` no code goes along, and the type is unknown elsewhere."""
    config_class, model_class = user("of_mine_quiet", TOWER, names="configuration.PixelTowerConfig modeling.PixelTower")
    joined = VisionTextDualEncoderModel(
        vision_model=model_class(config_class()), text_model=BertModel(BertConfig(**SMALL))
    )
    joined.save_pretrained("saved")
    assert python_files("saved") == []
    with pytest.raises(ValueError, match="pixel-tower"):
        AutoConfig.from_pretrained("saved", trust_remote_code=True)
    assert PretrainedConfig.from_pretrained("saved").extra["vision_config"]["hidden_size"] == 16
