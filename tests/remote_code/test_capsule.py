"""What a save with code carries, and that it is the same anywhere: requirements, verification, pickles, processes."""

import json
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import maquette
from maquette import AutoConfig, AutoTokenizer, SaveError, UntrustedCodeError
from maquette.remote_code.trust import read_trust, trust_file

CONFIGURATION = """
    from maquette import PretrainedConfig
    {extra}

    class Mine(PretrainedConfig):
        model_type = "mine"
        dim: int = 3

        def describe(self):
            return {value}

    def shout(text):
        return text.upper()
"""
MODELING = """
    import torch
    from torch import nn
    from maquette import PreTrainedModel
    from .configuration import Mine
    {extra}

    class Block(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.line = nn.Linear(dim, dim)

        def forward(self, x):
            return self.line(x)

    class Model(PreTrainedModel):
        config_class = Mine

        def __init__(self, config):
            super().__init__(config)
            {body}
            self.block = Block(config.dim)

        def forward(self, x):
            return self.block(x)
"""


def write(folder: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
    return folder


def make(folder: Path, *, extra: str = "", value: str = "1", files: dict[str, str] | None = None, **keys: Any) -> Path:
    """A folder as a save leaves it, with code of this test's making."""
    write(folder, {"configuration.py": CONFIGURATION.format(extra=extra, value=value), **(files or {})})
    content = {"model_type": "mine", "dim": 5, "auto_map": {"AutoConfig": "configuration.Mine"}, **keys}
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def save(run_fresh, tmp_path: Path) -> Callable[..., str]:
    """Write a project, and save from it in a process of its own; gives what that printed."""

    def save(code: str, *, extra: str = "", body: str = "pass", files: dict[str, str] | None = None) -> str:
        contents = {
            "pkg/__init__.py": "",
            "pkg/configuration.py": CONFIGURATION.format(extra="", value="1"),
            "pkg/modeling.py": MODELING.format(extra=extra, body=body),
            **(files or {}),
        }
        write(tmp_path / "source", contents)
        start = f"""
import sys; sys.path.insert(0, {str(tmp_path / "source")!r})
from pkg.modeling import Mine, Model
Mine.register_for_auto_class()
Model.register_for_auto_class("AutoModel")
"""
        return str(run_fresh(start + textwrap.dedent(code), check=False))

    return save


def config_of(folder: Path, name: str = "config.json") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return content


# Requirements ------------------------------------------------------------------------------------------------------


def test_a_save_says_what_its_code_was_saved_with(save, tmp_path: Path) -> None:
    """Distributions of what is imported, wherever it is, by the module's name; nothing of the standard library."""
    extra = "import json, msgspec\n    from PIL import Image\n    try:\n        import flash_attn\n"
    extra += "    except ImportError:\n"
    printed = save("Model(Mine()).save_pretrained('saved')", extra=extra + "        flash_attn = None")
    assert printed == ""
    assert config_of(tmp_path / "saved")["code_requirements"] == {
        "PIL": f"pillow=={version('pillow')}",
        "maquette": f"maquette=={maquette.__version__}",
        "msgspec": f"msgspec=={version('msgspec')}",
        "torch": f"torch=={version('torch').partition('+')[0]}",
    }
    config = AutoConfig.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    config.save_pretrained(tmp_path / "again")
    assert config_of(tmp_path / "again")["code_requirements"] == config_of(tmp_path / "saved")["code_requirements"]


def test_a_save_without_code_requires_nothing(tmp_path: Path) -> None:
    maquette.PretrainedConfig().save_pretrained(tmp_path / "plain")
    assert "code_requirements" not in config_of(tmp_path / "plain")


def test_everything_that_is_missing_is_one_error(tmp_path: Path) -> None:
    """All of it, from every file that the class needs, with the versions; not what may be missing, nor other files'."""
    extra = "import gone_one.deep, json\n    from .parts import x\n    try:\n        import gone_try\n"
    extra += "    except ImportError:\n"
    files = {
        "parts.py": "import gone_two, numpy\nx = 1\ndef f():\n    import gone_later\n",
        "unrelated.py": "import gone_elsewhere\n",
    }
    versions = {"gone_one": "gone-1==2.5", "gone_try": "gone-try==1.0", "torch": "torch==2.0"}
    folder = make(tmp_path / "m", extra=extra + "        pass", files=files, code_requirements=versions)
    with pytest.raises(ImportError) as refused:
        AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert str(refused.value) == (
        f"{str(folder)!r} needs 'gone_one' (gone-1 2.5), 'gone_two', which are not installed. "
        "Install what it was saved with: pip install gone-1==2.5"
    )


def test_what_is_missed_later_says_how_to_get_it(tmp_path: Path) -> None:
    """An import inside a function fails as it is, with a note; code that tries it may catch what it always catches."""
    versions = {"gone_later": "gone.later==0.3"}
    folder = make(tmp_path / "m", value="__import__('gone_later')", code_requirements=versions)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    with pytest.raises(ModuleNotFoundError, match="No module named 'gone_later'") as refused:
        config.describe()
    assert refused.value.__notes__ == [
        "The code was saved with gone.later 0.3. Install it: pip install gone.later==0.3"
    ]


@pytest.mark.parametrize(
    "versions",
    [
        {"gone": "gone==1; rm -rf ~"},
        {"gone": "--index-url=http://evil gone==1"},
        {"gone": "gone"},
        {"gone": "gone @ git+https://evil"},
        {"gone": ["gone==1"]},
        {"gone": "-r==1"},
        "gone==1",
        ["gone==1"],
        3,
    ],
    ids=repr,
)
def test_no_command_is_made_of_what_is_no_requirement(tmp_path: Path, versions: Any) -> None:
    folder = make(tmp_path / "m", extra="import gone", code_requirements=versions)
    with pytest.raises(ImportError) as refused:
        AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert str(refused.value) == f"{str(folder)!r} needs 'gone', which is not installed."


def test_a_name_that_an_installed_version_lacks_is_put_down_to_the_version(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", extra="from numpy import gone", code_requirements={"numpy": "numpy==0.9"})
    with pytest.raises(ImportError, match="cannot import name 'gone' from 'numpy'") as failed:
        AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert failed.value.__notes__[-1] == f"It was saved with numpy 0.9 (here: {version('numpy')})."


# Verification ------------------------------------------------------------------------------------------------------


def test_a_verified_save_is_the_save(save, tmp_path: Path) -> None:
    code = """
        import torch
        torch.manual_seed(0)
        model = Model(Mine(dim=4)).to(torch.bfloat16)
        model.save_pretrained("plain")
        model.save_pretrained("verified", verify=True, max_shard_size=32)
        Mine().save_pretrained("config", verify=True)
    """
    assert save(code) == ""
    plain, verified = tmp_path / "plain", tmp_path / "verified"
    assert config_of(verified) == config_of(plain)
    shards = [load_file(file) for file in sorted(verified.glob("*.safetensors"))]
    assert len(shards) == 2
    expected = load_file(plain / "model.safetensors")
    assert {name: value.tolist() for one in shards for name, value in one.items()} == {
        name: value.tolist() for name, value in expected.items()
    }
    assert sorted(path.name for path in (tmp_path / "config").iterdir()) == [
        "config.json",
        "configuration.py",
        "modeling.py",
    ]
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".maquette")]
    assert not any("verification" in place for place in read_trust())


FAILS = {
    "a file beside the source": (
        {"body": "open('precious.txt').close()"},
        "FileNotFoundError: .*'precious.txt'",
    ),
    "a module found by a name that is put together": (
        {
            "body": "__import__('hid' + 'den')",
            "files": {"hidden.py": ""},
        },
        "ModuleNotFoundError: No module named 'hidden'",
    ),
    "weights that the constructor changes": (
        {"body": "import os; self.register_buffer('b', torch.zeros(1 + ('MARK' not in os.environ)))"},
        "CheckpointError: .*",
    ),
    "what is saved differently each time": (
        {
            "extra": "import os\n    def note(self, transaction, **options):\n"
            "        PreTrainedModel._write_to(self, transaction, **options)\n"
            "        transaction.write('extra.txt', str(os.getpid()))",
            "body": "type(self)._write_to = note",
        },
        "what a fresh process loads is not what was saved:\n  - extra.txt differs",
    ),
}


@pytest.mark.parametrize("what", FAILS)
def test_what_cannot_be_loaded_elsewhere_is_not_saved(what: str, save, tmp_path: Path) -> None:
    options, message = FAILS[what]
    code = f"""
        import os
        os.environ["MARK"] = "1"
        open("precious.txt", "w").close()
        model = Model(Mine())
        {'del os.environ["MARK"]' if "constructor" in what else ""}
        model.save_pretrained("saved", verify=True)
    """
    printed = save(code, **options)
    assert re.search(rf"maquette.errors.SaveError: Model was not saved: (?s:.*){message}", printed), printed
    assert not (tmp_path / "saved").exists()


def test_a_failed_verification_leaves_the_earlier_save(save, tmp_path: Path) -> None:
    code = """
        open("precious.txt", "w").close()
        Model(Mine(dim=4)).save_pretrained("saved")
        Model(Mine(dim=5)).save_pretrained("saved", verify=True)
    """
    printed = save(code, body="open('precious.txt').close()")
    assert "SaveError: Model was not saved" in printed
    assert config_of(tmp_path / "saved")["dim"] == 4
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        *("config.json", "configuration.py", "model.safetensors", "modeling.py"),
    ]


def test_classes_without_code_in_the_save(save, tmp_path: Path) -> None:
    """A built-in class is loaded by its name; one of the user's that is not registered cannot be, and that is said."""
    code = """
        from maquette import DistilBertConfig
        DistilBertConfig(n_layers=1).save_pretrained("built-in", verify=True)
        class Local(Mine): pass
        try:
            Local().save_pretrained("local", verify=True)
        except Exception as error:
            print(type(error).__name__, error)
    """
    assert re.match(
        r"SaveError Local was not saved: .*defined in __main__.*Local.register_for_auto_class\(\)", save(code)
    )
    assert config_of(tmp_path / "built-in")["n_layers"] == 1
    assert not (tmp_path / "local").exists()


# Pickles -----------------------------------------------------------------------------------------------------------

UNPICKLE = "import pickle\nfrom pathlib import Path\nfound = pickle.loads(Path('pickled').read_bytes())\n"


def pickled(folder: Path, tmp_path: Path, run_fresh, expression: str = "config", trust: str = "True") -> None:
    """Load the checkpoint in a process of its own, and leave something of it pickled."""
    code = f"""
import pickle
from pathlib import Path
from maquette import AutoConfig
config = AutoConfig.from_pretrained({str(folder)!r}, trust_remote_code={trust})
Path("pickled").write_bytes(pickle.dumps({expression}))
"""
    assert run_fresh(code) == ""


@pytest.mark.parametrize(
    ("expression", "check"),
    [
        ("config", "found.dim == 5 and found.describe() == 1"),
        ("type(config)", "found(dim=4).dim == 4"),
        ("[config, type(config), {'a': config}]", "found[0] == found[2]['a'] and type(found[0]) is found[1]"),
    ],
)
def test_another_process_unpickles_by_the_hash(expression, check, tmp_path: Path, run_fresh) -> None:
    """The folder is gone; a process that has imported nothing finds the approved code."""
    folder = make(tmp_path / "m", extra="from .parts import *", files={"parts.py": "x = 'é'\n"})
    pickled(folder, tmp_path, run_fresh, expression)
    folder.rename(tmp_path / "gone")
    assert run_fresh(f"{UNPICKLE}assert {check}") == ""


def test_functions_of_such_code_unpickle_where_maquette_is_imported(tmp_path: Path, run_fresh) -> None:
    pickled(make(tmp_path / "m"), tmp_path, run_fresh, "__import__('sys').modules[type(config).__module__].shout")
    assert run_fresh(f"import maquette\n{UNPICKLE}print(found('x'))") == "X\n"


def test_code_in_any_encoding_is_kept_byte_for_byte(tmp_path: Path, run_fresh) -> None:
    folder = make(tmp_path / "m", extra="from .latin import x", value="x")
    (folder / "latin.py").write_bytes("# coding: latin-1\nx = 'é'\n".encode("latin-1"))
    pickled(folder, tmp_path, run_fresh)
    assert run_fresh(f"{UNPICKLE}assert found.describe() == 'é'") == ""


def refused(run_fresh, **environment: str) -> str:
    printed = run_fresh(UNPICKLE, env=environment, check=False)
    assert "ModuleNotFoundError" in printed
    return str(printed[printed.rfind("ModuleNotFoundError") :])


def test_without_an_approval_nothing_is_unpickled(tmp_path: Path, run_fresh) -> None:
    """A copy alone is no approval: not after the approval was withdrawn, and not where there never was one."""
    folder = make(tmp_path / "m", extra="print('it ran')")
    code = f"from maquette import AutoConfig\nAutoConfig.from_pretrained({str(folder)!r}, trust_remote_code=True)"
    assert run_fresh(code) == "it ran\n"
    (folder / "configuration.py").write_text((folder / "configuration.py").read_text().replace("it ran", "it runs"))
    digest = refused_digest(folder)
    code = code.replace("=True)", f'="{digest}")')
    dump = "\nimport pickle; open('pickled', 'wb').write(pickle.dumps(config))"
    assert run_fresh(code.replace("\n", "\nconfig = ") + dump).startswith("it runs\n")
    assert run_fresh(UNPICKLE) == "it runs\n"
    trust_file().unlink()
    message = refused(run_fresh)
    assert "There is a copy of it, of " in message and "nothing of it was run" in message
    assert "no copy of it" in refused(run_fresh, MAQUETTE_HOME=str(tmp_path / "elsewhere"))


def test_what_a_team_approved_is_unpickled_in_its_project(tmp_path: Path, run_fresh) -> None:
    """The lock file speaks for the project's processes, and no longer when it approves other code."""
    folder = make(tmp_path / "m")
    pickled(folder, tmp_path, run_fresh)
    approvals = json.loads(trust_file().read_text())
    (entry,) = approvals.values()
    trust_file().unlink()
    assert "no approval" in refused(run_fresh)
    lock = tmp_path / "maquette.lock"
    lock.write_text(json.dumps({"./m": entry}))
    assert run_fresh(UNPICKLE, env={"MAQUETTE_TRUST": "locked"}) == ""
    lock.write_text(json.dumps({"./m": {**entry, "digest": 64 * "0"}}))
    trust_file().write_text(json.dumps(approvals))  # the user's record counts less
    assert "no approval" in refused(run_fresh)


def refused_digest(folder: Path) -> str:
    with pytest.raises(UntrustedCodeError) as error:
        AutoConfig.from_pretrained(folder)
    return str(re.search(r"sha256:[0-9a-f]{64}", str(error.value))[0])  # type: ignore[index]


def test_a_copy_that_was_changed_never_runs(tmp_path: Path, run_fresh) -> None:
    pickled(make(tmp_path / "m"), tmp_path, run_fresh)
    (copy,) = (trust_file().parent / "code").iterdir()
    content = json.loads(copy.read_text())
    content["files"]["configuration.py"] = "print('it ran')\n" + content["files"]["configuration.py"]
    copy.write_text(json.dumps(content))
    message = refused(run_fresh)
    assert "is not that code: its hash is" in message and "it ran" not in message
    for broken in ("", "{}", "[]", '{"files": 3}', "\xff"):
        copy.write_bytes(broken.encode("latin-1"))
        assert "cannot be read" in refused(run_fresh)


MODEL_CODE = """
import io, json, multiprocessing, pickle
import torch
from torch.utils.data import DataLoader
from maquette import AutoModel

class Rows:
    def __init__(self, config): self.config = config
    def __len__(self): return 4
    def __getitem__(self, index): return torch.full((self.config.dim,), float(index))

def run(model, x):
    with torch.no_grad():
        return model(x).tolist()

if __name__ == "__main__":
    model = AutoModel.from_pretrained("saved", trust_remote_code=True)
    x = torch.ones(1, 3)
    expected = run(model, x)
    torch.save(model, "whole.pt")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(run, (model, x)) == expected
    context = multiprocessing.get_context("spawn")
    batches = list(DataLoader(Rows(model.config), batch_size=2, num_workers=1, multiprocessing_context=context))
    assert [batch[:, 0].tolist() for batch in batches] == [[0, 1], [2, 3]]
    print(json.dumps(expected))
"""
MODEL_LATER = """
import json, torch
model = torch.load("whole.pt", weights_only=False)
with torch.no_grad():
    print(json.dumps(model(torch.ones(1, 3)).tolist()))
"""


def test_models_go_to_workers_and_come_from_files(save, run_fresh, tmp_path: Path) -> None:
    """`torch.save`, processes that are spawned, and the workers of a DataLoader."""
    assert save("Model(Mine()).save_pretrained('saved')") == ""
    (tmp_path / "program.py").write_text(MODEL_CODE)
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (tmp_path / "saved").rename(tmp_path / "gone")
    assert run_fresh(MODEL_LATER) == done.stdout


# Many at once ------------------------------------------------------------------------------------------------------

LOAD = """
import sys, time
from pathlib import Path
from maquette import AutoConfig
Path(sys.argv[1]).touch()
while not Path("go").exists():
    time.sleep(0.001)
configs = [AutoConfig.from_pretrained(name, trust_remote_code=True) for name in ("one", "two")]
print([config.describe() for config in configs])
"""


def test_thirty_two_processes_load_two_models_with_equal_file_names(tmp_path: Path) -> None:
    """All start at one moment with no record and no copies; each gets each model's own code, whole."""
    for name in ("one", "two"):
        filler = "\n".join(f"x{number} = {number}" for number in range(3000))
        files = {"parts/__init__.py": f"{filler}\nfrom .deep import name", "parts/deep.py": f"name = {name!r}"}
        make(tmp_path / name, extra="from .parts import name, x2999", value="name, x2999", files=files)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, f"ready{number}"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(32)
    ]
    while len(list(tmp_path.glob("ready*"))) < 32 and all(process.poll() is None for process in started):
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert [process.communicate(timeout=120)[0] for process in started] == 32 * ["[('one', 2999), ('two', 2999)]\n"]
    assert len(read_trust()) == 2
    assert sorted(path.suffix for path in (trust_file().parent / "code").iterdir()) == [".json", ".json"]


def test_where_no_copy_can_be_kept_loading_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "m")
    monkeypatch.setenv("MAQUETTE_HOME", str(folder / "config.json" / "no folder"))
    assert AutoConfig.from_pretrained(folder, trust_remote_code=True).dim == 5
    monkeypatch.setenv("MAQUETTE_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "code").touch()
    assert AutoConfig.from_pretrained(folder, trust_remote_code=True).dim == 5


# Tokenizers --------------------------------------------------------------------------------------------------------

TOKENIZERS = """
    from pathlib import Path
    from maquette import PreTrainedTokenizer, PreTrainedTokenizerFast
    from parts_mine import lower

    class Letters(PreTrainedTokenizer):
        vocab_files_names = {"vocab_file": "letters.txt"}

        def __init__(self, vocab_file, unk_token="?", **kwargs):
            self.letters = Path(vocab_file).read_text(encoding="utf-8")
            super().__init__(unk_token=unk_token, **kwargs)

        vocab_size = property(lambda self: len(self.letters))

        def _tokenize(self, text): return list(lower(text))
        def _convert_token_to_id(self, token): return max(0, self.letters.find(token))
        def _convert_id_to_token(self, index): return self.letters[index]
        def get_vocab(self): return {letter: index for index, letter in enumerate(self.letters)}

        def save_vocabulary(self, save_directory, filename_prefix=None):
            path = Path(save_directory) / "letters.txt"
            path.write_text(self.letters, encoding="utf-8")
            return (str(path),)

    class LettersFast(PreTrainedTokenizerFast):
        slow_tokenizer_class = Letters

        def describe(self): return lower("FAST")
"""
MAKE_TOKENIZERS = """
import sys; sys.path.insert(0, "source")
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenization_mine import Letters, LettersFast
from pathlib import Path
Path("letters.txt").write_text("?abc ")
rust = Tokenizer(models.WordLevel({letter: index for index, letter in enumerate("?abc ")}, unk_token="?"))
rust.pre_tokenizer = pre_tokenizers.Split("", "isolated")
slow, fast = Letters("letters.txt"), LettersFast(tokenizer_object=rust, unk_token="?")
"""


def tokenizer_map(folder: Path) -> Any:
    return config_of(folder, "tokenizer_config.json").get("auto_map")


def test_the_code_of_tokenizers_travels(tmp_path: Path, run_fresh) -> None:
    """Either kind, alone or as a pair, in the peer's form of the map; verified, and loaded where the source is not."""
    write(tmp_path / "source", {"tokenization_mine.py": TOKENIZERS, "parts_mine.py": "def lower(t): return t.lower()"})
    code = """
slow.save_pretrained("unregistered")
Letters.register_for_auto_class()
slow.save_pretrained("slow", verify=True)
LettersFast.register_for_auto_class("AutoTokenizer")
fast.save_pretrained("fast", verify=True)
slow.save_pretrained("both", verify=True)
"""
    assert run_fresh(MAKE_TOKENIZERS + code) == ""
    (tmp_path / "source").rename(tmp_path / "gone")
    assert tokenizer_map(tmp_path / "unregistered") is None
    assert tokenizer_map(tmp_path / "slow") == {"AutoTokenizer": ["tokenization_mine.Letters", None]}
    pair = {"AutoTokenizer": ["tokenization_mine.Letters", "tokenization_mine.LettersFast"]}
    assert tokenizer_map(tmp_path / "fast") == tokenizer_map(tmp_path / "both") == pair
    assert config_of(tmp_path / "slow", "tokenizer_config.json")["code_requirements"] == {
        "maquette": f"maquette=={maquette.__version__}"
    }
    with pytest.raises(UntrustedCodeError, match=r"parts_mine.py, tokenization_mine.py"):
        AutoTokenizer.from_pretrained(tmp_path / "unregistered" / ".." / "slow", trust_remote_code=False)
    slow = AutoTokenizer.from_pretrained(tmp_path / "slow", trust_remote_code=True)
    assert slow("ABxc")["input_ids"] == [1, 2, 0, 3] and not slow.is_fast
    fast = AutoTokenizer.from_pretrained(tmp_path / "fast", trust_remote_code=True)
    assert fast.is_fast and fast.describe() == "fast" and fast("abxc")["input_ids"] == [1, 2, 0, 3]
    python = AutoTokenizer.from_pretrained(tmp_path / "both", trust_remote_code=True, use_fast=False)
    assert type(python).__name__ == "Letters" and python("ABxc")["input_ids"] == [1, 2, 0, 3]
    slow.save_pretrained(tmp_path / "again")
    assert tokenizer_map(tmp_path / "again") == tokenizer_map(tmp_path / "slow")
    assert (tmp_path / "again" / "parts_mine.py").is_file()


def test_a_tokenizers_code_beside_a_models(tmp_path: Path, run_fresh) -> None:
    """Both in one folder: each has a map in its own file, and the folder is approved once, as a whole."""
    files = {"tokenization_mine.py": TOKENIZERS, "parts_mine.py": "def lower(t): return t.lower()"}
    configuration = textwrap.dedent(CONFIGURATION.format(extra="", value="1"))
    write(tmp_path / "source", {**files, "configuration_mine.py": configuration})
    code = """
from configuration_mine import Mine
Letters.register_for_auto_class()
Mine.register_for_auto_class()
Mine().save_pretrained("saved")
slow.save_pretrained("saved")
"""
    assert run_fresh(MAKE_TOKENIZERS + code) == ""
    load = """
from maquette import AutoConfig, AutoTokenizer
assert AutoConfig.from_pretrained("saved", trust_remote_code=True).dim == 3
assert AutoTokenizer.from_pretrained("saved", trust_remote_code=True)("ab")["input_ids"] == [1, 2]
"""
    assert run_fresh(load) == ""


PROCESSOR = """
from maquette import AutoProcessor, BaseImageProcessor, PreTrainedTokenizerBase, ProcessorMixin
class Reader(ProcessorMixin):
    tokenizer: PreTrainedTokenizerBase
    second_tokenizer: PreTrainedTokenizerBase
Letters.register_for_auto_class()
Reader(slow, slow).save_pretrained("saved")
"""


def test_a_processor_carries_the_code_of_its_tokenizers(tmp_path: Path, run_fresh) -> None:
    files = {"tokenization_mine.py": TOKENIZERS, "parts_mine.py": "def lower(t): return t.lower()"}
    write(tmp_path / "source", files)
    assert run_fresh(MAKE_TOKENIZERS + PROCESSOR) == ""
    assert sorted(path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*.py")) == [
        *("parts_mine.py", "tokenization_mine.py"),
    ]
    load = """
from maquette import PreTrainedTokenizerBase, ProcessorMixin
class Reader(ProcessorMixin):
    tokenizer: PreTrainedTokenizerBase
    second_tokenizer: PreTrainedTokenizerBase
try:
    Reader.from_pretrained("saved")
except Exception as error:
    print(type(error).__name__)
reader = Reader.from_pretrained("saved", trust_remote_code=True)
print(reader.tokenizer("ab")["input_ids"], reader.second_tokenizer("c")["input_ids"])
"""
    assert run_fresh(load) == "UntrustedCodeError\n[1, 2] [3]\n"


def test_two_parts_with_different_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two tokenizers of two checkpoints, whose files are called alike, cannot become one folder."""
    from maquette.storage.transaction import Transaction

    class Part(maquette.PretrainedConfig):
        pass

    from maquette.remote_code.bundling import _stage

    message = "Two parts bring code in a file 'a.py', and the files differ"
    with pytest.raises(SaveError, match=message), Transaction(tmp_path / "saved") as transaction:
        _stage({"a.py": b"x = 1"}, [(Part(), {"AutoConfig": "a.X"})], {}, transaction)
        _stage({"a.py": b"x = 2"}, [(Part(), {"AutoTokenizer": "a.Y"})], {}, transaction)
    assert not (tmp_path / "saved").exists()


def test_the_store_is_no_way_in(tmp_path: Path, run_fresh) -> None:
    """A name that would leave the store is no name of a package."""
    (tmp_path / "evil.json").write_text("{}")
    printed = run_fresh(
        "import importlib, maquette\nimportlib.import_module('maquette_remote_/../../evil')", check=False
    )
    assert "ModuleNotFoundError" in printed
