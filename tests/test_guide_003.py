"""Guide 003, "Customizing models": its own code, from configuration to a model that a stranger reloads."""

import os
from pathlib import Path

from guides import blocks
from loopback_hub import LoopbackHub

TESTS = str(Path(__file__).parent)
DECLARE = f"""
import sys; sys.path.insert(0, {TESTS!r})
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
    """Every block before the upload runs as written; the upload needs a Hub that takes commits, and is tested there."""
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


def test_bad_block_type_is_refused(tmp_path: Path, run_fresh) -> None:
    (tmp_path / "configuration_resnet.py").write_text(blocks("003")[0], encoding="utf-8")
    code = "import sys; sys.path.insert(0, '.')\nfrom configuration_resnet import ResnetConfig\nResnetConfig({})"
    for wrong, message in (("block_type='basik'", "block_type"), ("stem_type='depp'", "stem_type")):
        assert f"ValueError: `{message}` must be" in run_fresh(code.format(wrong), check=False)
