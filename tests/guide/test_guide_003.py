"""Guide 003, "Customizing models": its own code, from configuration to a model that a stranger reloads."""

import os
from pathlib import Path

from guides import blocks
from loopback_hub import LoopbackHub

SUPPORT = str(Path(__file__).parents[1] / "support")
DECLARE = f"""
import sys; sys.path.insert(0, {SUPPORT!r})
from torchvision_operators import declare_operators
declare_operators()
"""
WARNINGS = "import warnings; warnings.simplefilter('default')\n"  # timm's own imports warn

PRETRAINED = """
import timm, torch
from safetensors.torch import save_file
torch.manual_seed(0)
model = timm.create_model("resnet50d")
with torch.no_grad():
    for number, parameter in enumerate(model.parameters()):
        parameter *= 1 + number / 10000
save_file(model.state_dict(), "pretrained.safetensors")
"""

SAVE = """
import torch
resnet50d.eval()
torch.manual_seed(1)
images = torch.randn(2, 3, 64, 64)
base = ResnetModel(resnet50d_config).eval()
base.load_state_dict(resnet50d.state_dict())
with torch.no_grad():
    expected = {"images": images, "logits": resnet50d(images)["logits"], "features": base(images)}
torch.save(expected, "expected.pt")
resnet50d.save_pretrained("custom-resnet50d")
assert type(AutoModelForImageClassification.from_pretrained("custom-resnet50d")) is ResnetModelForImageClassification
assert type(AutoModel.from_pretrained("custom-resnet50d")) is ResnetModel
assert all(torch.isfinite(value).all() for value in expected.values())
"""

RELOAD = """
import importlib.util, torch
assert importlib.util.find_spec("resnet_model") is None
from maquette import AutoConfig, AutoModel, AutoModelForImageClassification, UntrustedCodeError
for auto_class in (AutoConfig, AutoModel, AutoModelForImageClassification):
    try:
        auto_class.from_pretrained("custom-resnet50d")
    except UntrustedCodeError as error:
        assert "modeling_resnet.py" in str(error)
    else:
        raise AssertionError("it loaded without trust")
expected = torch.load("expected.pt")
classifier = AutoModelForImageClassification.from_pretrained("custom-resnet50d", trust_remote_code=True)
base = AutoModel.from_pretrained("custom-resnet50d", trust_remote_code=True)
assert type(classifier).__name__ == "ResnetModelForImageClassification" and type(base).__name__ == "ResnetModel"
config = AutoConfig.from_pretrained("custom-resnet50d", trust_remote_code=True)
assert (config.model_type, config.stem_type, config.stem_width, config.avg_down) == ("resnet", "deep", 32, True)
with torch.no_grad():
    assert torch.equal(classifier(expected["images"])["logits"], expected["logits"])
    assert torch.equal(base(expected["images"]), expected["features"])
out = classifier(expected["images"], labels=torch.tensor([1, 2]))
assert out["loss"].ndim == 0 and torch.isfinite(out["loss"])
classifier.save_pretrained("again")
again = AutoModelForImageClassification.from_pretrained("again", trust_remote_code=True)
with torch.no_grad():
    assert torch.equal(again(expected["images"])["logits"], expected["logits"])
print("equal")
"""


def test_from_configuration_to_a_reloaded_model_twice(tmp_path: Path, run_fresh) -> None:
    """Every block before the upload runs as written; the upload is below."""
    config_class, save_config, base, classifier, make, load_timm, register, imports, for_auto_class, again, *_ = [
        block for block in blocks("003") if "notebook_login" not in block
    ]
    assert 'AutoConfig.register("resnet", ResnetConfig)' in register
    assert "register_for_auto_class" in for_auto_class
    package = tmp_path / "writer" / "resnet_model"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "configuration_resnet.py").write_text(config_class, encoding="utf-8")
    (package / "modeling_resnet.py").write_text(base + classifier, encoding="utf-8")
    run_fresh(WARNINGS + DECLARE + PRETRAINED, cwd=tmp_path)
    with LoopbackHub() as hub:
        weights = (tmp_path / "pretrained.safetensors").read_bytes()
        hub.add_commit("timm/resnet50d.ra2_in1k", {"model.safetensors": weights})
        env = {**hub.environ(tmp_path / "hub-cache")}
        for attempt in ("first", "second"):
            script = [imports, save_config, make, load_timm, register, for_auto_class, again, SAVE]
            run_fresh(WARNINGS + DECLARE + "sys.path.insert(0, '.')\n" + "\n".join(script), cwd=package.parent, env=env)
            reader = tmp_path / f"{attempt} reader"
            reader.mkdir()
            for name in ("custom-resnet50d", "expected.pt"):
                os.rename(package.parent / name, reader / name)
            assert run_fresh(WARNINGS + DECLARE + RELOAD, cwd=reader).endswith("equal\n")


EXPECT = """
import torch
resnet50d.eval()
torch.manual_seed(1)
images = torch.randn(2, 3, 64, 64)
with torch.no_grad():
    torch.save({"images": images, "logits": resnet50d(images)["logits"]}, "expected.pt")
"""

LISTEN = """
import sys
ran = []
def listen(event, args):
    if event == "exec" and args[0].co_filename.startswith("maquette_remote_"):
        ran.append(args[0].co_filename.rpartition("/")[2])
sys.addaudithook(listen)
"""

REFUSED = """
import os
from maquette import AutoConfig, AutoModel, AutoModelForImageClassification, UntrustedCodeError
for auto_class in (AutoConfig, AutoModel, AutoModelForImageClassification):
    for trust in (None, False, "sha256:" + "0" * 64):
        try:
            auto_class.from_pretrained("ada/custom-resnet50d", trust_remote_code=trust)
        except UntrustedCodeError as error:
            assert "othing of it was run" in str(error)
        else:
            raise AssertionError("it loaded without trust")
assert ran == [] and "timm" not in sys.modules
assert not [name for name in sys.modules if name.startswith("maquette_remote_")]
assert not os.path.exists(os.environ["MAQUETTE_HOME"] + "/trust.json")
print("refused")
"""

FROM_THE_HUB = """
import importlib.util, torch
assert importlib.util.find_spec("resnet_model") is None
from maquette import AutoConfig, AutoModel, AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained("ada/custom-resnet50d", trust_remote_code=True)
assert type(model).__name__ == "ResnetModelForImageClassification"
assert type(AutoModel.from_pretrained("ada/custom-resnet50d", trust_remote_code=True)).__name__ == "ResnetModel"
config = AutoConfig.from_pretrained("ada/custom-resnet50d", trust_remote_code=True)
assert (config.model_type, config.stem_type, config.stem_width, config.avg_down) == ("resnet", "deep", 32, True)
expected = torch.load("expected.pt")
with torch.no_grad():
    assert torch.equal(model(expected["images"])["logits"], expected["logits"])
assert {"configuration_resnet.py", "modeling_resnet.py"} <= set(ran)
print("equal")
"""


def test_upload_and_reload_in_a_fresh_process(tmp_path: Path, run_fresh) -> None:
    """The guide's last blocks, `notebook_login()` and `push_to_hub`, as written; then somebody else loads it."""
    config_class, _, base, classifier, _, _, _, imports, for_auto_class, again, log_in, push = blocks("003")
    assert "notebook_login()" in log_in and push == 'resnet50d.push_to_hub("custom-resnet50d")\n'
    package = tmp_path / "writer" / "resnet_model"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "configuration_resnet.py").write_text(config_class, encoding="utf-8")
    (package / "modeling_resnet.py").write_text(base + classifier, encoding="utf-8")
    (package / ".env").write_text("TOKEN=x", encoding="utf-8")
    run_fresh(WARNINGS + DECLARE + PRETRAINED, cwd=tmp_path)
    with LoopbackHub() as hub:
        hub.add_account("ada", "hf_ada")
        hub.add_commit(
            "timm/resnet50d.ra2_in1k", {"model.safetensors": (tmp_path / "pretrained.safetensors").read_bytes()}
        )
        script = [imports, for_auto_class, "import timm  # as the guide did before\n", again, EXPECT, log_in, push]
        run_fresh(
            WARNINGS + DECLARE + "sys.path.insert(0, '.')\n" + "\n".join(script),
            cwd=package.parent,
            env={**hub.environ(tmp_path / "writer-cache"), "HF_TOKEN": "hf_ada"},
        )
        sent = set(hub.head("ada/custom-resnet50d").files)
        code = {"configuration_resnet.py", "modeling_resnet.py"}
        assert sent == {".gitattributes", "README.md", "config.json", "model.safetensors", *code}
        card = hub.head("ada/custom-resnet50d").files["README.md"].data.decode()
        assert 'from_pretrained("ada/custom-resnet50d", trust_remote_code=True)' in card
        assert "AutoModelForImageClassification" in card and all(f"- `{name}`" in card for name in code)
        assert "`timm`" in card and "`torch`" in card and "- custom_code" in card
        reader = tmp_path / "reader"
        reader.mkdir()
        os.rename(package.parent / "expected.pt", reader / "expected.pt")
        env = {**hub.environ(tmp_path / "reader-cache"), "MAQUETTE_HOME": str(tmp_path / "reader-home")}
        assert run_fresh(LISTEN + REFUSED, cwd=reader, env=env).endswith("refused\n")
        assert run_fresh(WARNINGS + DECLARE + LISTEN + FROM_THE_HUB, cwd=reader, env=env).endswith("equal\n")


def test_bad_block_type_is_refused(tmp_path: Path, run_fresh) -> None:
    (tmp_path / "configuration_resnet.py").write_text(blocks("003")[0], encoding="utf-8")
    code = "import sys; sys.path.insert(0, '.')\nfrom configuration_resnet import ResnetConfig\nResnetConfig({})"
    for wrong, message in (("block_type='basik'", "block_type"), ("stem_type='depp'", "stem_type")):
        assert f"ValueError: `{message}` must be" in run_fresh(code.format(wrong), check=False)


TRAIN = """
import torch
from maquette import Trainer, TrainingArguments
from resnet_model.configuration_resnet import ResnetConfig
from resnet_model.modeling_resnet import ResnetModelForImageClassification

torch.manual_seed(0)
torch.set_num_threads(1)
labels = torch.arange(48) % 3
images = torch.randn(48, 3, 32, 32) * 0.1 + torch.eye(3)[labels][:, :, None, None]  # one bright channel for each class
model = ResnetModelForImageClassification(ResnetConfig(block_type="basic", layers=[1, 1, 1, 1], num_classes=3))
args = TrainingArguments("out", num_train_epochs=3, learning_rate=1e-3, logging_steps=1, disable_tqdm=True)
data = torch.utils.data.TensorDataset(images, labels)
trainer = Trainer(model=model, args=args, train_dataset=data)
trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history]
assert len(losses) == 18 and sum(losses[-6:]) < sum(losses[:6]) / 2, losses
output = trainer.predict(data)
assert output.predictions.shape == (48, 3)
again = ResnetModelForImageClassification.from_pretrained("out/checkpoint-18").eval()
with torch.no_grad():
    assert torch.allclose(again(images)["logits"], torch.from_numpy(output.predictions), atol=1e-5)
print("trained")
"""


def test_the_guides_resnet_trains_unchanged(tmp_path: Path, run_fresh) -> None:
    """It returns a plain dictionary, and calls its input `tensor`."""
    config_class, _, base, classifier, *_ = [block for block in blocks("003") if "notebook_login" not in block]
    package = tmp_path / "resnet_model"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "configuration_resnet.py").write_text(config_class, encoding="utf-8")
    (package / "modeling_resnet.py").write_text(base + classifier, encoding="utf-8")
    assert 'return {"loss": loss, "logits": logits}' in classifier
    printed = run_fresh(WARNINGS + DECLARE + "sys.path.insert(0, '.')\n" + TRAIN, cwd=tmp_path)
    assert printed.endswith("trained\n"), printed
