"""Code of a checkpoint: runs only when the caller approved these very bytes, and then works like any other code."""

import copy
import hashlib
import inspect
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import LoopbackHub

import maquette
import maquette.remote_code.bundling
import maquette.remote_code.trust
import maquette.storage.transaction
from maquette import AutoConfig, RemoteCodeError, UnsafePathError, UntrustedCodeError
from maquette.hub.sources import open_source
from maquette.remote_code.loading import load_remote_class
from maquette.remote_code.names import PACKAGE_PREFIX
from maquette.remote_code.package import CodePackage, package_of
from maquette.remote_code.trust import read_trust, trust_file

CONFIGURATION = """
import os, subprocess
from pathlib import Path
from maquette import PretrainedConfig
from maquette.pretrained.mixin import PretrainedMixin
{extra}

class Mine(PretrainedConfig):
    model_type = "mine"
    dim: int = 3

    def describe(self):
        {body}

class Model(PretrainedMixin):
    config_class = Mine

def helper():
    pass
"""
RUNS = "raise SystemExit('it ran')\n"


def make(folder: Path, files: dict[str, str | bytes] | None = None, *, extra="", body="return 1", **auto_map) -> Path:
    """A folder as a save leaves it, with code of this test's making."""
    contents: dict[str, Any] = {"configuration.py": CONFIGURATION.format(extra=extra, body=body), **(files or {})}
    auto_map = auto_map or {"AutoConfig": "configuration.Mine", "AutoModel": "configuration.Model"}
    keys = {"trust_remote_code": True, "code_revision": "main"}  # a file's own word counts for nothing
    contents["config.json"] = json.dumps({"model_type": "mine", "dim": 5, "auto_map": auto_map, **keys})
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def load(folder: str | Path, trust: Any = True, **options: Any) -> Any:
    return AutoConfig.from_pretrained(folder, trust_remote_code=trust, **options)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest(folder: Path) -> str:
    """What a pin holds: one hash over the sorted names and hashes of the Python files."""
    hashes = {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in folder.rglob("*.py")}
    return "sha256:" + sha256(json.dumps(dict(sorted(hashes.items()))).encode())


# Trust -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [None, False])
def test_nothing_runs_without_trust(tmp_path: Path, trust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("it asked"))
    folder = make(tmp_path / "m", {"__init__.py": RUNS, "sub/other.py": RUNS}, extra=RUNS)
    with pytest.raises(UntrustedCodeError) as refused:
        load(folder, trust)
    message = str(refused.value)
    assert "nothing of it was run: __init__.py, configuration.py, sub/other.py." in message
    assert "trust_remote_code=True" in message and f'"{digest(folder)}"' in message
    assert read_trust() == {} and not trust_file().exists()


@pytest.mark.parametrize("trust", ["yes", "True", "", "sha256:", "sha256:12", "md5:" + 64 * "0", 1, 0, b"x", ["x"]])
def test_trust_is_said_in_one_way(tmp_path: Path, trust) -> None:
    with pytest.raises(ValueError, match=r"trust_remote_code is True, False, or \"sha256:\".*Nothing was run"):
        load(make(tmp_path / "m", extra=RUNS), trust)


def test_what_was_approved_is_recorded(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", {"sub/other.py": "x = 1"})
    assert load(folder).dim == load(folder / "config.json").dim == 5
    entry = read_trust()[str(folder)]
    assert entry["files"] == {
        name: sha256((folder / name).read_bytes()) for name in ("configuration.py", "sub/other.py")
    }
    assert (entry["commit"], "sha256:" + entry["digest"]) == (None, digest(folder))
    assert json.loads(trust_file().read_text()) == read_trust()
    before = trust_file().stat().st_mtime_ns
    assert load(folder).dim == 5
    assert trust_file().stat().st_mtime_ns == before


def test_changes_are_refused_by_name_until_they_are_approved(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", {"old.py": "x = 1", "same.py": "x = 1"})
    load(folder)
    make(folder, {"new.py": RUNS}, extra=RUNS)
    (folder / "old.py").unlink()
    for _ in range(2):
        with pytest.raises(UntrustedCodeError) as refused:
            load(folder)
        message = str(refused.value)
        assert "- configuration.py was changed\n" in message
        assert "- new.py was added\n" in message and "- old.py was removed\n" in message and "same.py" not in message
        assert f'trust_remote_code="{digest(folder)}" once' in message
    make(folder, {"new.py": ""}, extra="answer = 42")
    with pytest.raises(UntrustedCodeError, match="is not the one you pinned"):
        load(folder, "sha256:" + 64 * "0")
    with pytest.raises(UntrustedCodeError, match=r"new\.py was added"):
        load(folder)
    for trust in (digest(folder).upper().replace("SHA256", "sha256"), True):
        assert sys.modules[type(load(folder, trust)).__module__].answer == 42


def test_what_is_not_code_may_change(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    load(folder)
    for name in ("README.md", "notes.txt", "a-b.py", "lib/python3.11/site-packages/x.py", ".hidden/x.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(RUNS)
    assert load(folder, dim=7).dim == 7


def test_own_saves_are_approved(tmp_path: Path) -> None:
    config = load(make(tmp_path / "m", {"part.py": "x = 1"}))
    config.save_pretrained(tmp_path / "again")
    assert read_trust()[str(tmp_path / "again")]["digest"] == read_trust()[str(tmp_path / "m")]["digest"]
    other = load(make(tmp_path / "other", extra="x = 1"))
    other.save_pretrained(tmp_path / "again")  # over it: part.py stays behind, and was approved
    assert type(load(tmp_path / "again")).__module__ != type(config).__module__


def test_a_save_into_a_folder_with_foreign_code_approves_nothing(tmp_path: Path) -> None:
    config = load(make(tmp_path / "m"))
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "planted.py").write_text(RUNS)
    config.save_pretrained(tmp_path / "again")
    assert str(tmp_path / "again") not in read_trust()
    with pytest.raises(UntrustedCodeError, match=r"planted\.py"):
        load(tmp_path / "again", None)


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """Everything works, and one line says what is lost."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MAQUETTE_HOME", str(tmp_path / "file" / "home"))
    folders = [make(tmp_path / name, extra=f"x = {name!r}") for name in "abc"]
    with caplog.at_level(logging.WARNING, logger="maquette"):
        configs = [load(folder) for folder in folders]
        configs[0].save_pretrained(tmp_path / "again")
        assert load(tmp_path / "again") == configs[0]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith(f"Approvals of code cannot be recorded in {tmp_path / 'file' / 'home' / 'trust.json'}")
    with pytest.raises(UntrustedCodeError):
        load(folders[0], None)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"a": 1}', '{"a": {"digest": 3, "files": {}}}', "\xff", "[" * 10**5]
)
def test_a_damaged_record_lets_nothing_run(tmp_path: Path, content: str) -> None:
    trust_file().parent.mkdir(parents=True)
    trust_file().write_text(content, encoding="latin-1")
    with pytest.raises(UntrustedCodeError, match=r"trust\.json' cannot be read.*Fix it, or remove it"):
        load(make(tmp_path / "m", extra=RUNS))
    assert trust_file().read_text(encoding="latin-1") == content


def test_where_the_record_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value, expected in [
        ("MAQUETTE_HOME", "/opt/m", "/opt/m/trust.json"),
        ("MAQUETTE_HOME", "~/m", f"{tmp_path}/m/trust.json"),
        ("MAQUETTE_HOME", "", f"{tmp_path}/.config/maquette/trust.json"),
        ("XDG_CONFIG_HOME", "/opt/x", "/opt/x/maquette/trust.json"),
    ]:
        monkeypatch.setenv(name, value)
        assert str(trust_file()) == expected


def test_many_processes_record_at_once(tmp_path: Path) -> None:
    folders = [make(tmp_path / str(number), extra=f"x = {number}") for number in range(12)]
    code = (
        "import sys\nfrom concurrent.futures import ThreadPoolExecutor\nfrom maquette import AutoConfig\n"
        "run = lambda folder: AutoConfig.from_pretrained(folder, trust_remote_code=True)\n"
        "list(ThreadPoolExecutor(4).map(run, sys.argv[1:]))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, *map(str, folders[k::3])]) for k in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert read_trust().keys() == {str(folder) for folder in folders}
    assert {path.name for path in trust_file().parent.iterdir()} == {"trust.json", "approved", "code"}
    assert [path.suffix for path in (trust_file().parent / "code").iterdir()] == 12 * [".json"]


# What runs is what was hashed --------------------------------------------------------------------------------------


def test_what_was_hashed_runs_even_if_the_file_changes_meanwhile(tmp_path: Path, monkeypatch) -> None:
    folder = make(tmp_path / "m", {"late.py": "value = 'approved'"}, body="from .late import value; return value")
    record = maquette.remote_code.trust.record_trust

    def swap(package: CodePackage, references: Any) -> None:
        record(package, references)
        for path in folder.glob("*.py"):
            path.write_text(RUNS)

    monkeypatch.setattr("maquette.remote_code.trust.record_trust", swap)
    assert load(folder).describe() == "approved"


PLANTED = """
import sys; sys.path.insert(0, "planted")
from maquette import AutoConfig
try:
    AutoConfig.from_pretrained("m")
except ValueError as error:
    pass
from maquette.remote_code.package import CodePackage
from maquette.hub.sources import open_source
import pathlib
with open_source("m") as source:
    name = CodePackage.read(source, {}).name
for place in (pathlib.Path(), pathlib.Path("planted")):
    for module in ("__init__", "configuration", "parts_mine", "folder/inner", "folder/__init__"):
        for root in (name, "."):
            path = place / root / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("raise SystemExit('planted code ran')")
config = AutoConfig.from_pretrained("m", trust_remote_code=True)
print(config.describe())
"""


def test_nothing_planted_runs(tmp_path: Path, run_fresh) -> None:
    """Neither bytecode and libraries in the folder, nor modules and packages of the same names on the path."""
    absolute = "from parts_mine import value as a\nimport folder.inner\nfrom folder import inner as b"
    files = {"parts_mine.py": "value = 1", "folder/inner.py": "value = 2"}
    folder = make(tmp_path / "m", files, extra=absolute, body="return a, folder.inner.value, b.value")
    for suffix in (".pyc", ".so", f".{sys.implementation.cache_tag}.pyc", ".abi3.so", ".pyd"):
        for place in ("", "__pycache__/"):
            (folder / f"{place}configuration{suffix}").parent.mkdir(exist_ok=True)
            (folder / f"{place}configuration{suffix}").write_bytes(b"planted")
    assert run_fresh(PLANTED).splitlines() == ["(1, 2, 2)"]


def test_two_checkpoints_never_collide(tmp_path: Path) -> None:
    files = {"parts_mine.py": "value = {0}", "sub/__init__.py": "", "sub/deep.py": "value = {0}"}
    extra = "from parts_mine import value\nfrom .parts_mine import value as again\nfrom .sub import deep"
    folders = [
        make(
            tmp_path / f"m{number}",
            {name: content.format(number) for name, content in files.items()},
            extra=extra,
            body="return value + again + deep.value",
        )
        for number in range(3)
    ]
    configs = [load(folder) for folder in folders]
    assert [config.describe() for config in configs] == [0, 3, 6]
    assert len({type(config) for config in configs}) == 3
    assert "parts_mine" not in sys.modules and "sub" not in sys.modules
    assert all(type(config).__module__.startswith(PACKAGE_PREFIX) for config in configs)
    copy_of_first = make(
        tmp_path / "copy",
        {name: content.format(0) for name, content in files.items()},
        extra=extra,
        body="return value + again + deep.value",
    )
    assert type(load(copy_of_first)) is type(configs[0])  # the same bytes are the same class


def test_sixteen_threads(tmp_path: Path) -> None:
    folders = [
        make(
            tmp_path / f"m{n}",
            {"slow.py": f"import time; time.sleep(0.05); value = {n}"},
            extra="from .slow import value",
            body="return value",
        )
        for n in range(4)
    ]
    found: list[tuple[int, Any]] = []
    start = threading.Barrier(16)

    def run(number: int) -> None:
        start.wait()
        found.append((number % 4, load(folders[number % 4])))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(number for number, _ in found) == sorted([0, 1, 2, 3] * 4)
    assert all(config.describe() == number for number, config in found)
    assert len({type(config) for _, config in found}) == 4
    assert len(read_trust()) == 4


# Imports of such code ----------------------------------------------------------------------------------------------

PEER = [
    ("import transformers", "transformers.PretrainedConfig"),
    ("import transformers as t", "t.PretrainedConfig"),
    ("from transformers import PretrainedConfig as P", "P"),
    ("from transformers.configuration_utils import PretrainedConfig as P", "P"),
    ("import transformers.configuration_utils", "transformers.configuration_utils.PretrainedConfig"),
    ("import transformers.configuration_utils", "transformers.PretrainedConfig"),
    ("import transformers.configuration_utils as c", "c.PretrainedConfig"),
    ("from transformers.models.any.thing import PretrainedConfig as P", "P"),
]


@pytest.mark.parametrize(("imported", "name"), PEER)
def test_transformers_means_maquette_where_it_is_not_installed(tmp_path: Path, imported: str, name: str) -> None:
    config = load(make(tmp_path / "m", extra=imported, body=f"return {name}"))
    assert config.describe() is maquette.PretrainedConfig
    assert "transformers" not in sys.modules


def test_models_written_for_transformers(tmp_path: Path, run_fresh) -> None:
    """Their base classes are maquette's; this one needs torch, so it has a process of its own."""
    extra = (
        "from transformers import PreTrainedModel\nfrom transformers.modeling_utils import PreTrainedModel as P2\n"
        "from transformers.modeling_outputs import BaseModelOutput\nimport transformers\n"
        "assert PreTrainedModel is P2 is transformers.PreTrainedModel"
    )
    make(tmp_path / "m", extra=extra, body="return PreTrainedModel.__module__, BaseModelOutput.__module__")
    code = "from maquette import AutoConfig\nprint(AutoConfig.from_pretrained('m', trust_remote_code=True).describe())"
    assert run_fresh(code) == "('maquette.modeling.torch', 'maquette.modeling.outputs')\n"


def test_what_maquette_lacks_is_an_import_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(RemoteCodeError, match=r"takes telling, twice from transformers.utils.*not inst.*no such name"):
        load(make(tmp_path / "a", extra="from transformers.utils import telling, logging, twice"))
    with pytest.raises(RemoteCodeError, match=r"takes PretraindConfig.*Did you mean .*'PretrainedConfig'"):
        load(make(tmp_path / "b", extra="from transformers import PretraindConfig"))
    optional = "try:\n    from transformers.utils import is_x\nexcept ImportError:\n    is_x = None"
    assert load(make(tmp_path / "c", extra=optional, body="return is_x")).describe() is None


def test_transformers_itself_where_it_is_installed(tmp_path: Path, run_fresh) -> None:
    """A folder of that name, such as a clone beside the script, is not an installation."""
    make(tmp_path / "m", extra="import transformers", body="return transformers.__name__")
    code = (
        "import sys\nfrom maquette import AutoConfig\nsys.path.insert(0, {0!r})\n"
        "print(AutoConfig.from_pretrained('m', trust_remote_code=True).describe())"
    )
    (tmp_path / "clone" / "transformers" / "src").mkdir(parents=True)
    assert run_fresh(code.format("clone")) == "maquette\n"
    (tmp_path / "installed" / "transformers").mkdir(parents=True)
    (tmp_path / "installed" / "transformers" / "__init__.py").write_text(
        "class PretrainedConfig: pass\n", encoding="utf-8"
    )
    assert run_fresh(code.format("installed")) == "transformers\n"
    make(tmp_path / "m2", extra="from transformers import PretrainedConfig")
    printed = run_fresh(code.format("installed").replace("'m'", "'m2'"), check=False)
    assert "but that is the class Mine. It is of transformers, which is installed here" in printed


def test_a_folder_of_an_installed_packages_name_does_not_hide_it(tmp_path: Path) -> None:
    files = {"msgspec/export.py": "", "tomllib/x.py": "", "tqdm.py": "import tqdm\nbar = tqdm.tqdm.__module__"}
    extra = "import msgspec, tomllib, msgspec.json\nfrom msgspec import Struct\nfrom .tqdm import bar"
    config = load(make(tmp_path / "m", files, extra=extra, body="return msgspec.json.encode([1]), Struct, bar"))
    assert config.describe()[0] == b"[1]" and config.describe()[1].__module__ == "msgspec"
    assert config.describe()[2].startswith("tqdm")


def test_a_package_beats_a_module_of_its_name(tmp_path: Path) -> None:
    """As in Python."""
    files = {"parts.py": "value = 'module'", "parts/__init__.py": "value = 'package'"}
    assert (
        load(make(tmp_path / "m", files, extra="from .parts import value", body="return value")).describe() == "package"
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("import not_to_be_found_anywhere", r"needs 'not_to_be_found_anywhere', which is not installed"),
        ("from .gone import x", r"gone is imported, but not among its files"),
        ("from .sub.gone import x", r"sub.gone is imported, but not among its files"),
        ("from maquette import Nothing", r"cannot import name 'Nothing'"),
    ],
)
def test_code_that_needs_what_is_not_there(tmp_path: Path, extra: str, message: str) -> None:
    with pytest.raises(ImportError, match=message):
        load(make(tmp_path / "m", {"sub/x.py": ""}, extra=extra))


@pytest.mark.parametrize("extra", ["1 / 0", "def broken(:", "x = '\0'", "raise KeyError"])
def test_code_that_fails_says_whose_it_is(tmp_path: Path, extra: str) -> None:
    folder = make(tmp_path / "m", extra=extra)
    with pytest.raises((ArithmeticError, SyntaxError, ValueError, LookupError)) as failed:
        load(folder)
    assert failed.value.__notes__ == [f"This happened in the code of {str(folder)!r}, while it was imported."]
    make(folder)  # once it is fixed and approved, it loads: nothing half-imported is kept
    assert load(folder, digest(folder)).dim == 5


# It is code like any other -----------------------------------------------------------------------------------------


def test_source_lines_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tracebacks and by `inspect`, even where a file with that path is planted or the original is gone."""
    folder = make(tmp_path / "m", body="raise RuntimeError('här')  # the line")
    config = load(folder)
    file = inspect.getfile(type(config))
    for path in folder.glob("*.py"):
        path.unlink()
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text("planted\n" * 100, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    try:
        config.describe()
    except RuntimeError:
        shown = traceback.format_exc()
    assert "raise RuntimeError('här')  # the line" in shown and "planted" not in shown
    assert inspect.getsource(type(config)).startswith("class Mine(PretrainedConfig):\n")
    assert inspect.getsource(type(config).describe).endswith("# the line\n")
    assert inspect.getmodule(type(config)).__name__ == type(config).__module__


def test_copies_and_pickles(tmp_path: Path, run_fresh) -> None:
    config = load(make(tmp_path / "m"))
    for again in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert type(again) is type(config) and again == config
    (tmp_path / "pickled").write_bytes(pickle.dumps(config))
    code = "import pickle\nfrom pathlib import Path\npickle.loads(Path('pickled').read_bytes())"
    assert run_fresh(code) == ""
    elsewhere = {"MAQUETTE_HOME": str(tmp_path / "another user's")}
    assert "is the code of a checkpoint, which this process has not loaded" in run_fresh(
        code, env=elsewhere, check=False
    )
    known = "from maquette import AutoConfig\nAutoConfig.from_pretrained('m', trust_remote_code=True)\n"
    assert run_fresh(known + code, env=elsewhere) == ""


LOAD_MODEL = """
import torch
from maquette import AutoModel
model = AutoModel.from_pretrained({0!r}, trust_remote_code=True)
x = torch.arange(10.0).reshape(2, 5)
expected = model(x)
assert expected.shape == (2, 5) and torch.isfinite(expected).all()
model.save_pretrained({1!r})
print(expected.tolist())
"""

USE_MODEL = """
import copy, io, pickle
assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(x), expected)
assert torch.equal(torch.export.export(model, (x,)).module()(x), expected)
assert torch.equal(copy.deepcopy(model)(x), expected)
assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
file = io.BytesIO()
torch.save(model, file)
file.seek(0)
assert torch.equal(torch.load(file, weights_only=False)(x), expected)
"""

MODEL = {
    "modeling.py": """
import torch
from torch import nn
from maquette import PreTrainedModel
from configuration import Mine
from .parts.block import Block

class Model(PreTrainedModel):
    config_class = Mine
    def __init__(self, config):
        super().__init__(config)
        self.block = Block(config.dim)
    def forward(self, x):
        return self.block(x)
""",
    "parts/block.py": """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.line = nn.Linear(dim, dim)
    def forward(self, x):
        from .activation import act
        return act(self.line(x))
""",
    "parts/activation.py": "import torch\ndef act(x):\n    return torch.nn.functional.gelu(x)\n",
}


def test_models_compile_export_copy_and_travel_on(tmp_path: Path, run_fresh) -> None:
    """Made by hand, loaded, saved, and loaded again from that save in another process: the same answers."""
    import torch
    from safetensors.torch import save_file

    folder = make(tmp_path / "m", MODEL, AutoConfig="configuration.Mine", AutoModel="modeling.Model")
    torch.manual_seed(0)
    save_file({"block.line.weight": torch.randn(5, 5), "block.line.bias": torch.randn(5)}, folder / "model.safetensors")
    first = run_fresh(LOAD_MODEL.format("m", "again") + USE_MODEL)
    saved = {path.name for path in (tmp_path / "again").rglob("*") if path.is_file()}
    assert saved == {"config.json", "model.safetensors", "configuration.py", "modeling.py", "block.py", "activation.py"}
    assert run_fresh(LOAD_MODEL.format("again", "third")) == first
    digests = {entry["digest"] for entry in read_trust().values()}
    assert len(read_trust()) == 3 and len(digests) == 1


PEERS = {
    "configuration_tiny.py": """
from transformers import PretrainedConfig
class TinyConfig(PretrainedConfig):
    model_type = "tiny-of-the-peer"
    def __init__(self, dim=4, **kwargs):
        self.dim = dim
        super().__init__(**kwargs)
""",
    "modeling_tiny.py": """
import torch
from transformers.modeling_outputs import BaseModelOutput
from transformers.modeling_utils import PreTrainedModel
from .configuration_tiny import TinyConfig
from .operators import act
class TinyModel(PreTrainedModel):
    config_class = TinyConfig
    def __init__(self, config):
        super().__init__(config)
        self.line = torch.nn.Linear(config.dim, config.dim)
        self.post_init()
    def _init_weights(self, module):
        pass
    def forward(self, x):
        return BaseModelOutput(last_hidden_state=act(self.line(x)))
""",
    "operators.py": "import torch\ndef act(x):\n    return torch.tanh(x)\n",
    "__init__.py": "",
}

PEER_SAVES = """
import torch
from tiny.modeling_tiny import TinyConfig, TinyModel
TinyConfig.register_for_auto_class()
TinyModel.register_for_auto_class("AutoModel")
model = TinyModel(TinyConfig(dim=5)).eval()
model.save_pretrained("saved")
print(model(torch.ones(1, 5)).last_hidden_state.tolist()[0])
"""


def test_a_checkpoint_with_code_that_the_peer_saved(tmp_path: Path, peer_python: str, run_fresh) -> None:
    for name, content in PEERS.items():
        (tmp_path / "tiny").mkdir(exist_ok=True)
        (tmp_path / "tiny" / name).write_text(content, encoding="utf-8")
    command = [peer_python, "-W", "ignore", "-c", PEER_SAVES]
    printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    (tmp_path / "tiny").rename(tmp_path / "gone")
    code = (
        "import torch\nfrom maquette import AutoModel\n"
        "model = AutoModel.from_pretrained('saved', trust_remote_code=True)\n"
        "print(model(torch.ones(1, 5)).last_hidden_state.tolist()[0])"
    )
    assert json.loads(run_fresh(code)) == pytest.approx(json.loads(printed), abs=1e-6)


# Malformed maps and hostile folders --------------------------------------------------------------------------------

REFERENCES = [
    *(3, 1.5, True, None, [], {}, ["configuration.Mine"], [None, "configuration.Mine"]),
    *("", ".", "Mine", "configuration", ".Mine", "configuration.", "configuration..Mine", "a.b.c.d"),
    *("../evil.X", "/etc/evil.X", "..evil.X", "sub/evil.X", "C:\\evil.X", "configuration.py", "configuration.py.Mine"),
    *("os.system", "builtins.exec", "subprocess.Popen", "maquette.PretrainedConfig", "__main__.X", "sys.exit"),
    *("configuration.os.system", "configuration.os", "configuration.subprocess", "configuration.subprocess.Popen"),
    *("configuration.Path", "configuration.helper", "configuration.Model", "configuration.PretrainedMixin"),
    *("configuration.__class__", "configuration.__builtins__", "configuration.__name__", "configuration.__loader__"),
    *("configuration.Mine.describe", "configuration.Mine ", " configuration.Mine", "configuration.Mine\n"),
    *("confi\0guration.Mine", "configuration.\0", "config.json", "evil", "configuration.Mien", "configuraton.Mine"),
    *("--configuration.Missing", "m--", "--"),
]


@pytest.mark.parametrize("reference", REFERENCES, ids=repr)
def test_a_reference_leads_to_a_configuration_of_the_files_or_nowhere(tmp_path: Path, reference) -> None:
    (tmp_path / "evil.py").write_text(RUNS)
    folder = make(tmp_path / "m", AutoConfig=reference)
    with pytest.raises(RemoteCodeError) as refused:
        load(folder)
    assert str(folder) in str(refused.value)
    if reference in ("configuration.Mien", "configuraton.Mine"):
        assert "Did you mean 'Mine'" in str(refused.value) or "Did you mean 'configuration'" in str(refused.value)


def test_a_model_is_no_configuration_and_the_other_way_round(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", AutoConfig="configuration.Model", AutoModel="configuration.Mine")
    with open_source(folder) as source:
        for auto_class, what in {"AutoConfig": "Model", "AutoModel": "Mine"}.items():
            auto_map = {"AutoConfig": "configuration.Model", "AutoModel": "configuration.Mine"}
            with pytest.raises(
                RemoteCodeError, match=f"for {auto_class}, where .* belongs, but that is the class {what}"
            ):
                load_remote_class(source, auto_map, auto_class, trust=True)
        with pytest.raises(RemoteCodeError, match=r"no class for AutoModelForCTC.*'AutoConfig', 'AutoModel'"):
            load_remote_class(source, auto_map, "AutoModelForCTC", trust=True)


@pytest.mark.parametrize("repository", ["../m", "/tmp", "~", ".", "a/b/c", "m/../m", "C:\\m", "a b"])
def test_a_reference_never_opens_a_folder(tmp_path: Path, repository: str, monkeypatch) -> None:
    """What stands before `--` is a repository of the Hub, even where there is a folder of that name."""
    make(tmp_path / "m", extra=RUNS)
    monkeypatch.chdir(tmp_path)
    folder = make(tmp_path / "config", AutoConfig=f"{repository}--other.Mine")
    with pytest.raises(UntrustedCodeError, match="names code of another repository"):
        load(folder, None)
    with pytest.raises(maquette.MissingFileError, match="neither a local folder nor a repository"):
        load(folder, True)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    (tmp_path / "secret.py").write_text("x = 1")
    (folder / "inside.py").symlink_to("configuration.py")
    assert load(folder).dim == 5
    (folder / "link.py").symlink_to(tmp_path / "secret.py")
    with pytest.raises(UnsafePathError, match=r"'link\.py' is refused.*leads out"):
        load(folder)


def test_what_is_no_file_is_no_code(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", {"folder.py/x.txt": ""})
    os.mkfifo(folder / "pipe.py")
    (folder / "gone.py").symlink_to("nowhere.py")
    (folder / ".#lock.py").symlink_to("me@host")
    (folder / "loop").symlink_to(".")
    for name in ("a b.py", "ünïcode.py", "1.py", "x.py\n", "a\nb.py", "class.py", "\udcff.py"):
        (folder / name).write_text("")
    load(folder)
    assert read_trust()[str(folder)]["files"].keys() == {"configuration.py", "ünïcode.py", "class.py"}


def test_too_much_code_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    with open(folder / "huge.py", "wb") as file:
        file.truncate(10 * 2**40)  # ten terabytes, none of them on disk
    with pytest.raises(RemoteCodeError, match=r"are 10485760 MB; code has at most 64 MB"):
        load(folder)
    (folder / "huge.py").unlink()
    for number in range(10_000):
        (folder / f"m{number}.py").touch()
    started = time.monotonic()
    with pytest.raises(RemoteCodeError, match=r"holds 10001 Python files; a checkpoint with code has at most 2000"):
        load(folder)
    assert time.monotonic() - started < 5


def test_environments_and_deep_trees_do_not_count(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    for name in ("venv/pyvenv.cfg", "env/bin/pyvenv.cfg", "node_modules/x-y/z.py"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    for number in range(3000):
        path = folder / "venv" / "Lib" / f"m{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    deep = folder.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "bottom.py").write_text("value = 1")
    assert load(folder).dim == 5
    assert read_trust()[str(folder)]["files"].keys() == {"configuration.py", "d/" * 300 + "bottom.py"}


def test_code_of_this_process_and_of_a_checkpoint_do_not_mix(tmp_path: Path) -> None:
    """Two packages go into one save if their files agree; a class of this process cannot lean on them."""
    first, second = load(make(tmp_path / "a")), load(make(tmp_path / "b", extra="x = 1"))
    model = package_of(type(second)).load("configuration.Model")
    assert package_of(model) is package_of(type(second)) and package_of(dict) is None

    def save(cls: type) -> None:
        with maquette.storage.transaction.Transaction(tmp_path / "saved") as transaction:
            maquette.remote_code.bundling.pack_code(cls, copy.deepcopy(first), transaction)

    with pytest.raises(RemoteCodeError, match=r"cannot be saved into one folder: both have a file 'configuration.py'"):
        save(model)
    Local = type("Local", (model,), {"config_class": type(first)})
    save(Local)  # not registered: the configuration's code goes along
    Local.register_for_auto_class("AutoModel")
    with pytest.raises(RemoteCodeError, match=r"Local cannot be saved with it: its configuration, Mine, is code of"):
        save(Local)


# The Hub -----------------------------------------------------------------------------------------------------------

REPO, OTHER = "user/model", "other/repo"


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture
def ask(hub: LoopbackHub, tmp_path: Path, run_fresh) -> Callable[..., str]:
    """Load from the hub in a process of its own; gives what `describe` gave, or the error."""

    def run(name: str, trust: Any = True, **options: Any) -> str:
        code = (
            "from maquette import AutoConfig\n"
            f"print(AutoConfig.from_pretrained({name!r}, trust_remote_code={trust!r}, **{options!r}).describe())"
        )
        printed = run_fresh(code, env=hub.environ(tmp_path / "hub"), check=False).strip()
        return printed[max(0, printed.rfind("maquette.errors.")) :]

    return run


def push(hub: LoopbackHub, repo: str, folder: Path, prefix: str = "") -> str:
    found = {prefix + p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return hub.add_commit(repo, found)


def test_code_of_a_repository(hub: LoopbackHub, ask, tmp_path: Path) -> None:
    """Approved at a commit; another commit with the same code is fine, other code is refused by name."""
    files = {"parts/norm.py": "value = 7"}
    folder = make(tmp_path / "m", files, extra="from .parts.norm import value", body="return value")
    first = push(hub, REPO, folder)
    message = ask(REPO, None)
    assert "nothing of it was run: configuration.py, parts/norm.py" in message and digest(folder) in message
    assert ask(REPO) == "7"
    assert read_trust()[REPO]["commit"] == first
    second = hub.add_commit(REPO, {"README.md": b"more"})
    assert ask(REPO) == "7" and read_trust()[REPO]["commit"] == second
    make(folder, {"parts/norm.py": "value = 8"}, extra="from .parts.norm import value", body="return value")
    push(hub, REPO, folder)
    message = ask(REPO)
    assert (
        "is not the code that was approved:\n  - parts/norm.py was changed\n" in message and digest(folder) in message
    )
    assert ask(REPO, revision=second) == "7"
    assert ask(REPO, digest(folder)) == ask(REPO) == "8"
    hub.requests.clear()
    assert ask(REPO, local_files_only=True) == "8" and hub.requests == []


def test_a_sub_folder_is_approved_by_itself(hub: LoopbackHub, ask, tmp_path: Path) -> None:
    push(hub, REPO, make(tmp_path / "a", body="return 1"))
    push(hub, REPO, make(tmp_path / "b", body="return 2"), "sub/")
    assert (ask(REPO, subfolder="sub"), ask(REPO), ask(REPO, subfolder="sub")) == ("2", "1", "2")
    assert read_trust()[f"{REPO}:sub"]["files"].keys() == {"configuration.py"}
    assert read_trust()[REPO]["files"].keys() == {"configuration.py", "sub/configuration.py"}


def test_code_of_another_repository_needs_an_approval_of_its_own(hub: LoopbackHub, ask, tmp_path: Path) -> None:
    code = make(tmp_path / "code", body="return 'theirs'")
    push(hub, OTHER, code)
    folder = make(tmp_path / "m", extra=RUNS, AutoConfig=f"{OTHER}--configuration.Mine")
    push(hub, REPO, folder)
    assert "names code of another repository, 'other/repo'; it was not looked at" in ask(REPO, None)
    assert not any(OTHER in request.path for request in hub.requests)
    message = ask(REPO)
    assert "'user/model' names code of another repository, 'other/repo', which needs an approval of its own" in message
    assert f'"{digest(code)}" once' in message and read_trust() == {}
    assert "is not the one you pinned" in ask(REPO, digest(folder))
    assert ask(REPO, digest(code)) == "theirs"
    assert read_trust().keys() == {OTHER}  # nothing of the first repository ran, or was approved
    assert ask(REPO) == "theirs"
    push(hub, OTHER, make(code, body="return 'changed'"))
    assert "The code of 'other/repo' is not the code that was approved" in ask(REPO)
    assert ask(OTHER, digest(code)) == ask(REPO) == "changed"


def test_a_map_that_moves_to_another_repository_brings_no_new_code(hub: LoopbackHub, ask, tmp_path: Path) -> None:
    """Approved code, and then only the configuration changes: what it names now was never approved."""
    push(hub, OTHER, make(tmp_path / "evil", extra=RUNS))
    folder = make(tmp_path / "m")
    push(hub, REPO, folder)
    assert ask(REPO) == "1"
    push(hub, REPO, make(folder, AutoConfig=f"{OTHER}--configuration.Mine"))
    assert "needs an approval of its own" in ask(REPO)


def test_a_copy_of_a_repository_needs_no_hub(hub: LoopbackHub, ask, tmp_path: Path) -> None:
    """The map may carry the repository's own name, as the guide has it; the code lies in the folder itself."""
    folder = make(tmp_path / "clone", body="return 'mine'", AutoConfig=f"{REPO}--configuration.Mine")
    push(hub, REPO, folder)
    assert ask(REPO) == "mine"
    hub.requests.clear()
    assert ask(str(folder)) == "mine" and hub.requests == []
    lonely = make(tmp_path / "lonely", AutoConfig=f"{REPO}--configuration.Mine")
    (lonely / "configuration.py").unlink()
    assert ask(str(lonely)) == "mine"  # the repository's code was approved above
    hub.requests.clear()
    assert ask(str(lonely), local_files_only=True) == "mine" and hub.requests == []


def test_what_came_from_another_repository_is_saved_as_one_folder(hub: LoopbackHub, tmp_path: Path, run_fresh) -> None:
    push(hub, OTHER, make(tmp_path / "code", {"part.py": "value = 3"}, extra="from .part import value"))
    folder = make(tmp_path / "m", AutoConfig=f"{OTHER}--configuration.Mine", AutoModel=f"{OTHER}--gone.Model")
    (folder / "configuration.py").unlink()
    code = "from maquette import AutoConfig\nconfig = AutoConfig.from_pretrained({0!r}, trust_remote_code={1!r})\n"
    pin = digest(tmp_path / "code")
    run_fresh(code.format("m", pin) + "config.save_pretrained('again')", env=hub.environ(tmp_path / "hub"))
    assert json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "configuration.Mine"
    }
    run_fresh(code.format("again", True) + "assert config.dim == 5")


def test_much_code_on_the_hub_is_refused_before_it_is_fetched(
    hub: LoopbackHub, ask, tmp_path: Path, monkeypatch
) -> None:
    push(hub, REPO, make(tmp_path / "m", {"huge.py": b" " * (65 * 2**20)}))
    assert "are 65 MB; code has at most 64 MB" in ask(REPO)
    assert not any("huge.py" in request.path for request in hub.requests)
