"""Code that goes along with a save: exactly the files that are imported, and it works where nothing else is."""

import json
import re
import sys
import textwrap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from maquette import PretrainedConfig

# What lies beside every project and has to stay there.
BESIDE = {
    "unrelated.py": "raise SystemExit('it was imported')",
    "train/__init__.py": "",
    "train/loop.py": "",
    "data.json": "{}",
    "venv/lib/python3.11/site-packages/parts.py": "",
}


@dataclass
class Project:
    """Somebody's source files, how the class is imported, and what a save should hold besides `config.json`.

    `value` is an expression over what the configuration's module imports; it has to give the same after every reload.
    """

    imports: str
    files: dict[str, str] = field(default_factory=dict)
    saved: str = "configuration.py"
    module: str = "pkg.configuration"
    value: str = "value"
    body: str = ""

    def write(self, folder: Path) -> None:
        module = self.module.replace(".", "/")
        files = {f"{module}.py": CLASS.format(self=self), **BESIDE, **self.files}
        if "." in self.module:
            files = {"pkg/__init__.py": "", **files}
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(content), encoding="utf-8")


CLASS = """
from maquette import PretrainedConfig
{self.imports}

class Mine(PretrainedConfig):
    model_type = "mine"
    dim: int = 3

    def describe(self):
        {self.body}
        return {self.value}
"""

ONE = "value = 1\n"

PROJECTS = {
    "nothing": Project("", value="0"),
    "sibling": Project("from .parts import value", {"pkg/parts.py": ONE}, "configuration.py parts.py"),
    "sibling under another name": Project(
        "from . import parts as p", {"pkg/parts.py": ONE}, "configuration.py parts.py", value="p.value"
    ),
    "chain": Project(
        "from .a import value",
        {"pkg/a.py": "from .b import value", "pkg/b.py": "from .c import value", "pkg/c.py": ONE},
        "a.py b.py c.py configuration.py",
    ),
    "circle": Project(
        "from .a import value",
        {"pkg/a.py": "from . import b\nvalue = 1", "pkg/b.py": "from . import a"},
        "a.py b.py configuration.py",
    ),
    "sub-packages": Project(
        "from .blocks.attention import value",
        {
            "pkg/blocks/__init__.py": "",
            "pkg/blocks/attention.py": "from ..norm import value",
            "pkg/blocks/unused.py": "",
            "pkg/norm.py": ONE,
        },
        "blocks/__init__.py blocks/attention.py configuration.py norm.py",
    ),
    "sub-package without __init__": Project(
        "from .blocks.attention import value",
        {"pkg/blocks/attention.py": ONE},
        "blocks/attention.py configuration.py",
    ),
    "up the tree": Project(
        "from ... import common\nfrom ..other import value as v",
        {
            "pkg/models/__init__.py": "from . import neighbour",
            "pkg/models/neighbour.py": "",
            "pkg/models/mine/__init__.py": "",
            "pkg/models/other.py": ONE,
            "pkg/common.py": ONE,
        },
        "common.py models/mine/configuration.py models/other.py",
        module="pkg.models.mine.configuration",
        value="v + common.value",
    ),
    "name in __init__": Project(
        "from .blocks import value", {"pkg/blocks/__init__.py": ONE}, "blocks/__init__.py configuration.py"
    ),
    "module in a package whose __init__ does things": Project(
        "from .blocks import register\nfrom .registry import known",
        {
            "pkg/blocks/__init__.py": "from . import first, register\n",
            "pkg/blocks/first.py": "from ..registry import known\nknown.append('first')",
            "pkg/blocks/register.py": "",
            "pkg/registry.py": "known = []",
        },
        "blocks/__init__.py blocks/first.py blocks/register.py configuration.py registry.py",
        value="known",
    ),
    "function with its module's name": Project(
        "from .blocks import attention",
        {
            "pkg/blocks/__init__.py": "from .attention import attention",
            "pkg/blocks/attention.py": "def attention(): return 7",
        },
        "blocks/__init__.py blocks/attention.py configuration.py",
        value="attention()",
    ),
    "name of the own package": Project(
        "from . import VALUE",
        {"pkg/__init__.py": "from .parts import value as VALUE", "pkg/parts.py": ONE},
        "__init__.py configuration.py parts.py",
        value="VALUE",
    ),
    "function of the own package with its module's name": Project(
        "from . import parts",
        {"pkg/__init__.py": "from .parts import parts", "pkg/parts.py": "def parts(): return 5"},
        "__init__.py configuration.py parts.py",
        value="parts()",
    ),
    "class in __init__": Project(
        "from .parts import value",
        {"pkg/__init__.py": "", "pkg/sub/parts.py": ONE},
        "__init__.py parts.py",
        module="pkg.sub.__init__",
    ),
    "star": Project("from .parts import *", {"pkg/parts.py": ONE}, "configuration.py parts.py"),
    "star over modules": Project(
        "from .blocks import *",
        {"pkg/blocks/__init__.py": "__all__ = ['a', 'VALUE']\nVALUE = 2", "pkg/blocks/a.py": ONE},
        "blocks/__init__.py blocks/a.py configuration.py",
        value="a.value + VALUE",
    ),
    "try with what is missing": Project(
        "try:\n    from .fast import value\nexcept ImportError:\n    from .slow import value",
        {"pkg/slow.py": ONE},
        "configuration.py slow.py",
    ),
    "try with what is there": Project(
        "try:\n    from .fast import value\nexcept ImportError:\n    from .slow import value",
        {"pkg/slow.py": ONE, "pkg/fast.py": "value = 2"},
        "configuration.py fast.py slow.py",
    ),
    "suppress": Project(
        "import contextlib\nvalue = 0\nwith contextlib.suppress(ImportError):\n    from .fast import value",
        {},
        "configuration.py",
    ),
    "relative or else absolute": Project(
        "try:\n    from .parts import value\nexcept ImportError:\n    from parts import value",
        {"pkg/parts.py": ONE},
        "configuration.py parts.py",
    ),
    "conditional": Project(
        "import sys\nif sys.version_info > (4,):\n    from .old import value\nelse:\n    from .new import value",
        {"pkg/old.py": "value = 9", "pkg/new.py": ONE},
        "configuration.py new.py old.py",
    ),
    "for type checkers": Project(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .kinds import Kind\n    from .gone import Gone",
        {"pkg/kinds.py": "class Kind: pass"},
        "configuration.py kinds.py",
        value="0",
    ),
    "inside a function": Project("", {"pkg/late.py": ONE}, "configuration.py late.py", body="from .late import value"),
    "import_module": Project(
        "import importlib\nlate = importlib.import_module('.late', __package__)\n"
        "more = importlib.import_module('.sub.more', __package__)",
        {"pkg/late.py": ONE, "pkg/sub/__init__.py": "", "pkg/sub/more.py": "value = 2"},
        "configuration.py late.py sub/__init__.py sub/more.py",
        value="late.value + more.value",
    ),
    "absolute imports of a script": Project(
        "from parts_mine import value\nimport blocks_mine.deep.attention\nimport blocks_mine.norm as norm",
        {
            "parts_mine.py": "from configuration_mine import PretrainedConfig\nvalue = 1",
            "blocks_mine/__init__.py": "",
            "blocks_mine/norm.py": ONE,
            "blocks_mine/deep/__init__.py": "",
            "blocks_mine/deep/attention.py": "from ..norm import value",
        },
        "blocks_mine/__init__.py blocks_mine/deep/__init__.py blocks_mine/deep/attention.py blocks_mine/norm.py "
        "configuration_mine.py parts_mine.py",
        module="configuration_mine",
        value="value + blocks_mine.deep.attention.value + norm.value",
    ),
    "folder without __init__ beside a script": Project(
        "from blocks_mine.norm import value\nfrom blocks_mine import attention",
        {"blocks_mine/norm.py": ONE, "blocks_mine/attention.py": ONE},
        "blocks_mine/attention.py blocks_mine/norm.py configuration_mine.py",
        module="configuration_mine",
        value="value + attention.value",
    ),
    "absolute imports of the own package": Project(
        "from pkg.parts import value\nimport pkg.blocks.norm\nimport pkg.blocks.norm as norm",
        {"pkg/parts.py": ONE, "pkg/blocks/__init__.py": "", "pkg/blocks/norm.py": "from pkg.parts import value"},
        "pkg/__init__.py pkg/blocks/__init__.py pkg/blocks/norm.py pkg/configuration.py pkg/parts.py",
        value="value + pkg.blocks.norm.value + norm.value",
    ),
    "absolute import in the own __init__": Project(
        "from pkg import value",
        {"pkg/__init__.py": "from pkg.parts import value", "pkg/parts.py": ONE},
        "pkg/__init__.py pkg/configuration.py pkg/parts.py",
    ),
    "modules named like installed ones": Project(
        "import msgspec, types\nfrom .msgspec import value\nfrom .types import Kind",
        {"pkg/msgspec.py": "import msgspec\nvalue = msgspec.__name__", "pkg/types.py": "Kind = 3"},
        "pkg/configuration.py pkg/msgspec.py pkg/types.py",
        value="value + str(Kind) + msgspec.Struct.__name__ + types.ModuleType.__name__",
    ),
    "module named like one of the standard library": Project(
        "import types\nfrom .types import Kind",
        {"pkg/types.py": "Kind = 3"},
        "configuration.py types.py",
        value="str(Kind) + types.ModuleType.__name__",
    ),
    "installed packages": Project(
        "import json, os.path, msgspec, numpy as np\nfrom tqdm import tqdm\nfrom maquette.hub.sources import require",
        value="np.arange(3).tolist()",
    ),
    "another encoding": Project(
        "from .latin import value", {"pkg/latin.py": ONE}, "configuration.py latin.py", value="value"
    ),
    "odd names": Project(
        "from .größe import value\nfrom ._private import value as v",
        {"pkg/größe.py": ONE, "pkg/_private.py": ONE},
        "_private.py configuration.py größe.py",
        value="value + v",
    ),
}

SAVE = """
import sys; sys.path.insert(0, {source!r})
from {module} import Mine
Mine.register_for_auto_class()
config = Mine(dim=5)
print(config.describe())
config.save_pretrained({target!r})
"""

RELOAD = """
from maquette import AutoConfig
config = AutoConfig.from_pretrained("saved", trust_remote_code=True)
assert config.dim == 5
print(config.describe())
config.save_pretrained("again")
again = AutoConfig.from_pretrained("again", trust_remote_code=True)
assert type(again) is type(config) and again == config
"""


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", PROJECTS)
def test_what_is_imported_goes_along_and_works(name: str, tmp_path: Path, run_fresh) -> None:
    """Save, reload where the source is not, save again, reload again: the same files and the same answers."""
    project = PROJECTS[name]
    source, reader = tmp_path / "source", tmp_path / "reader"
    reader.mkdir()
    project.write(source)
    if name == "another encoding":
        (source / "pkg" / "latin.py").write_bytes("# coding: latin-1\nvalue = 'é'\n".encode("latin-1"))
    module = project.module.removesuffix(".__init__")
    code = SAVE.format(source=str(source), module=module, target=str(reader / "saved"))
    expected = run_fresh(code, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert " ".join(sorted(files(reader / "saved").keys() - {"config.json"})) == project.saved
    assert run_fresh(RELOAD, cwd=reader) == expected
    assert files(reader / "again") == files(reader / "saved")


# Several classes ---------------------------------------------------------------------------------------------------

ARCHITECTURE = """
from maquette import PretrainedConfig
from maquette.pretrained.mixin import PretrainedMixin

class Mine(PretrainedConfig):
    model_type = "mine"

class Base(PretrainedMixin):
    config_class = Mine

class Classifier(Base):
    config_class = Mine

class Derived(Base):
    pass
"""

# A model without a framework: what the saves of all models do with code and configuration.
SAVE_AS = """
from maquette.storage.transaction import Transaction
from maquette.remote_code.bundling import pack_code
def save(cls, folder):
    config = cls.config_class()
    with Transaction(folder) as transaction:
        pack_code(cls, config, transaction)
        config._write_file(transaction)
"""


def write(folder: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
    return folder


@pytest.fixture
def run(run_fresh, tmp_path: Path) -> Callable[..., str]:
    """Run code where `source` is importable; gives what it printed, and of an error the last lines."""

    def run(code: str, **env: str) -> str:
        start = f"import sys; sys.path.insert(0, {str(tmp_path / 'source')!r})\n"
        printed = run_fresh(start + code, env={"PYTHONDONTWRITEBYTECODE": "1", **env}, check=False)
        return printed[max(0, printed.rfind("maquette.errors.")) :]

    return run


def auto_map(folder: Path) -> dict | None:
    return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auto_map")


def test_several_auto_classes_for_one_configuration(tmp_path: Path, run) -> None:
    write(tmp_path / "source", {"pkg/__init__.py": "", "pkg/architecture.py": ARCHITECTURE})
    printed = run("""
from pkg.architecture import *
Mine.register_for_auto_class()
Base.register_for_auto_class("AutoModel")
Classifier.register_for_auto_class("AutoModelForImageClassification")
Mine().save_pretrained("saved")
""")
    assert printed == ""
    expected = {
        "AutoConfig": "architecture.Mine",
        "AutoModel": "architecture.Base",
        "AutoModelForImageClassification": "architecture.Classifier",
    }
    assert auto_map(tmp_path / "saved") == expected
    printed = run("""
from maquette import AutoConfig
from maquette.remote_code.loading import load_remote_class
from maquette.hub.sources import open_source
config = AutoConfig.from_pretrained("saved", trust_remote_code=True)
with open_source("saved") as source:
    for name in config.auto_map:
        print(name, load_remote_class(source, config.auto_map, name, trust=True).__name__)
type(config)(problem_type="regression").save_pretrained("again")  # made anew: the map comes with the code
""")
    assert dict(line.split() for line in printed.splitlines()) == {k: v.split(".")[1] for k, v in expected.items()}
    assert auto_map(tmp_path / "again") == expected


def test_only_what_was_registered_goes_along(tmp_path: Path, run) -> None:
    """A class derived from a registered one was not registered; the configuration's registration is enough for it."""
    write(tmp_path / "source", {"pkg/__init__.py": "", "pkg/architecture.py": ARCHITECTURE})
    run(f"""
from pkg.architecture import *
{SAVE_AS}
save(Base, "none")
Base.register_for_auto_class("AutoModel")
save(Derived, "derived")
save(Base, "base")
Mine.register_for_auto_class()
save(Derived, "config")
""")
    assert files(tmp_path / "none").keys() == files(tmp_path / "derived").keys() == {"config.json"}
    assert auto_map(tmp_path / "none") is auto_map(tmp_path / "derived") is None
    both = {"AutoConfig": "architecture.Mine", "AutoModel": "architecture.Base"}
    assert auto_map(tmp_path / "base") == auto_map(tmp_path / "config") == both


def test_a_class_of_another_place_stays_behind_and_is_named(tmp_path: Path, run) -> None:
    write(tmp_path / "source", {"pkg/__init__.py": "", "pkg/architecture.py": ARCHITECTURE})
    printed = run("""
from pkg.architecture import *
class InNotebook(Base):
    pass
Mine.register_for_auto_class()
Base.register_for_auto_class("AutoModel")
InNotebook.register_for_auto_class("AutoModelForCTC")
Mine().save_pretrained("saved")
""")
    assert "does not carry the code of InNotebook" in printed and "__main__" in printed
    assert sorted(auto_map(tmp_path / "saved") or {}) == ["AutoConfig", "AutoModel"]


def test_a_configuration_of_another_place(tmp_path: Path, run) -> None:
    """A built-in one does not travel, an installed one is reached through the module that imports it."""
    write(
        tmp_path / "elsewhere",
        {"theirs.py": "from maquette import PretrainedConfig\nclass Theirs(PretrainedConfig): pass\n"},
    )
    model = "from maquette.pretrained import PretrainedMixin\nclass {0}(PretrainedMixin): config_class = {1}\n"
    write(
        tmp_path / "source",
        {
            "mine.py": "from maquette import PretrainedConfig\n" + model.format("BuiltIn", "PretrainedConfig"),
            "mine2.py": "from theirs import Theirs\n" + model.format("Installed", "Theirs"),
            "mine3.py": "import theirs\n" + model.format("Unnamed", "theirs.Theirs"),
        },
    )
    printed = run(f"""
sys.path.append("elsewhere")
{SAVE_AS}
from mine import BuiltIn
from mine2 import Installed
from mine3 import Unnamed
for cls in (BuiltIn, Installed, Unnamed):
    cls.register_for_auto_class()
    save(cls, cls.__name__)
""")
    assert auto_map(tmp_path / "BuiltIn") == {"AutoModel": "mine.BuiltIn"}
    assert files(tmp_path / "Installed").keys() == {"config.json", "mine2.py"}
    assert auto_map(tmp_path / "Installed") == {
        "AutoConfig": "mine2.Theirs",
        "AutoModel": "mine2.Installed",
    }
    assert "must come from one folder or package: Theirs cannot go along with Unnamed: it lies in" in printed
    assert not (tmp_path / "Unnamed").exists()


# Installed packages ------------------------------------------------------------------------------------------------

LIBRARY = {
    "{0}/configuration.py": """
        import neighbour
        from maquette import PretrainedConfig
        from .parts import value
        class Mine(PretrainedConfig):
            model_type = "mine"
    """,
    "{0}/__init__.py": "from .unused import everything",
    "{0}/parts.py": "value = 1",
    "{0}/unused.py": "everything = 1",
    "neighbour.py": "value = 2",
}
REGISTER = "Mine.register_for_auto_class(); Mine().save_pretrained('saved')\n"


def lay_out(folder: Path, package: str) -> None:
    write(folder, {name.format(package): content for name, content in LIBRARY.items()})


def test_of_an_installed_package_only_its_own_files_travel(tmp_path: Path, run) -> None:
    lay_out(tmp_path / "site-packages", "library")
    assert run("sys.path.insert(0, 'site-packages')\nfrom library.configuration import Mine\n" + REGISTER) == ""
    assert files(tmp_path / "saved").keys() == {"config.json", "configuration.py", "parts.py"}


def test_of_a_project_what_lies_beside_travels_when_it_is_imported(tmp_path: Path, run) -> None:
    lay_out(tmp_path / "source", "library")
    assert run("from library.configuration import Mine\n" + REGISTER) == ""
    assert files(tmp_path / "saved").keys() == {
        "config.json",
        "library/configuration.py",
        "library/parts.py",
        "neighbour.py",
    }


def test_an_editable_package_is_an_installed_one(tmp_path: Path, run) -> None:
    """Installers put its folder into a `.pth` file, or map its name to a folder that may have any other name."""
    lay_out(tmp_path / "source", "library")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    user = tmp_path / "user" / "lib" / version / "site-packages"
    user.mkdir(parents=True)
    (user / "library.pth").write_text(f"import sys\n{tmp_path / 'source'}\n", encoding="utf-8")
    code = "from library.configuration import Mine\n" + REGISTER
    assert run(code, PYTHONUSERBASE=str(tmp_path / "user")) == ""
    assert files(tmp_path / "saved").keys() == {"config.json", "configuration.py", "parts.py"}
    lay_out(tmp_path / "project", "src")
    mapped = """
import importlib.util, types
finder = sys.modules["__editable___library_finder"] = types.ModuleType("finder")
finder.MAPPING = {"library": "project/src"}
place = dict(submodule_search_locations=["project/src"])
spec = importlib.util.spec_from_file_location("library", "project/src/__init__.py", **place)
sys.modules["library"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["library"])
"""
    assert run(mapped + code.replace("saved", "mapped")) == ""
    assert files(tmp_path / "mapped").keys() == {"config.json", "configuration.py", "parts.py"}


# What cannot travel ------------------------------------------------------------------------------------------------

MAKE = "from maquette import PretrainedConfig\nclass Mine(PretrainedConfig): pass\n"
INNER = """
from maquette import PretrainedConfig
def make():
    class Mine(PretrainedConfig): pass
    return Mine
class Outer:
    class Mine(PretrainedConfig): pass
class Hidden(PretrainedConfig): pass
Alias = Hidden
del Hidden
"""
BY_PATH = """
import importlib.util
spec = importlib.util.spec_from_file_location("other", "source/plain.py")
module = sys.modules["other"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
Mine = module.Mine
"""
REFUSED = {
    "in the script that runs": (MAKE, r"Mine cannot be saved.*__main__.*from modeling_mine import Mine"),
    "in a function": (
        "from inner import make; Mine = make()",
        r"another scope \(make.<locals>.Mine\). Define it at the top",
    ),
    "in a class": ("from inner import Outer; Mine = Outer.Mine", r"another scope \(Outer.Mine\). Define it at the top"),
    "under no name": ("from inner import Alias as Mine", r"inner holds no Hidden"),
    "under another module name": (BY_PATH, r"its module is called 'other', but its file is .*plain.py"),
    "with a compiled sibling": (
        "import types; c = sys.modules['pkg._C'] = types.ModuleType('_C'); c.op = 1; from pkg.needs import Mine",
        r"needs.py, line 1: 'from \._C import op' finds no Python file for 'op'",
    ),
    "with a sibling named like the standard library": ("from clash import Mine", r"imports 'profile'.*Rename the file"),
    "in a file that is gone": (
        "from plain import Mine; import os; os.remove('source/plain.py')",
        r"no Python file \('.*plain",
    ),
    "in an archive": (
        "sys.path.insert(0, 'z.zip'); from zipped import Mine",
        r"no Python file \('.*z.zip.zipped.py'\)",
    ),
}


@pytest.mark.parametrize("where", REFUSED)
def test_what_cannot_travel_is_refused_and_nothing_is_saved(where: str, tmp_path: Path, run) -> None:
    code, message = REFUSED[where]
    contents = {
        "plain.py": MAKE,
        "inner.py": INNER,
        "profile.py": "value = 1",
        "clash.py": "from profile import value\n" + MAKE,
        "pkg/__init__.py": "",
        "pkg/needs.py": "from ._C import op\n" + MAKE,
    }
    write(tmp_path / "source", contents)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("zipped.py", MAKE)
    printed = run(code + "\n" + REGISTER)
    assert re.match(f"maquette.errors.RemoteCodeError: (?s:.*){message}", printed), printed
    assert not (tmp_path / "saved").exists()


def test_nobodys_source_is_overwritten(tmp_path: Path, run) -> None:
    """Saving into a project's own folder is no way to lose a file of it."""
    contents = {"pkg/__init__.py": "", "pkg/modeling.py": MAKE, "modeling.py": "print('precious')"}
    write(tmp_path / "source", contents)
    code = "from pkg.modeling import Mine\nMine.register_for_auto_class()\n"
    printed = run(code + "Mine().save_pretrained('source')\n")
    assert re.match(r"maquette.errors.SaveError: .*would overwrite '.*modeling.py', which is from no save", printed)
    assert files(tmp_path / "source")["modeling.py"] == b"print('precious')"
    assert not (tmp_path / "source" / "config.json").exists()
    assert run(code + "Mine().save_pretrained('source/pkg')\n") == ""  # the same bytes
    write(tmp_path / "source", {"pkg/modeling.py": MAKE + "# edited\n"})
    assert run(code + "Mine().save_pretrained('saved')\n") == ""
    write(tmp_path / "source", {"pkg/modeling.py": MAKE + "# edited again\n"})
    assert run(code + "Mine().save_pretrained('saved')\n") == ""  # an earlier save may be replaced
    assert files(tmp_path / "saved")["modeling.py"].endswith(b"# edited again\n")


def test_a_map_without_its_code_is_not_written(tmp_path: Path) -> None:
    """A class of this process reads the folder, and saves elsewhere: the code stays behind, and so does the map."""

    class Mine(PretrainedConfig):
        model_type = "mine"

    source = write(tmp_path / "source", {"modeling.py": ""})
    content = {"model_type": "mine", "auto_map": {"AutoConfig": "modeling.Mine", "AutoModel": "other/repo--m.Model"}}
    (source / "config.json").write_text(json.dumps(content), encoding="utf-8")
    config = Mine.from_pretrained(source)
    config.save_pretrained(tmp_path / "elsewhere")
    assert auto_map(tmp_path / "elsewhere") == {"AutoModel": "other/repo--m.Model"}
    config.save_pretrained(source)  # in place: the files are there
    assert auto_map(source) == content["auto_map"]
    config.auto_map = {"AutoConfig": "modeling.Mine"}
    config.save_pretrained(tmp_path / "elsewhere")
    assert auto_map(tmp_path / "elsewhere") is None
