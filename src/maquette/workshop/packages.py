"""`make_package`: a package with an architecture of one's own, which installs, is tested, and learns."""

import datetime
import importlib.util
import keyword
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import maquette
from maquette.errors import InputError, SaveError, UnknownNameError, did_you_mean
from maquette.registry import card_for
from maquette.storage.paths import user_path

TEMPLATES = Path(__file__).parent / "templates"
KINDS = {
    "decoder": ("a decoder", "train"),
    "encoder": ("an encoder of texts", "train"),
    "vision": ("a model that looks at images", "train,vision"),
    "speech": ("a model that hears what is said", "train,audio"),
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*")
IMPORT = re.compile(r"^(?:import .*|from .* import (?:\([^)]*\)|[^(\n]*))\n", re.MULTILINE)
IMPORTS = re.compile(rf"(?:{IMPORT.pattern}\n*)*{IMPORT.pattern}", re.MULTILINE)
OWN = re.compile(r"maquette\.workshop\.templates\.\w+")
FRAMEWORKS = {"torch": "", "keras": "modeling_tf", "flax": "modeling_flax"}


@dataclass(frozen=True)
class Names:
    """How one name is written in different places."""

    model_type: str  # night-jar: of the distribution, and in config.json
    package: str  # night_jar
    start: str  # NightJar: what the names of its classes begin with

    @classmethod
    def of(cls, name: str) -> "Names":
        """Read a name.

        Raises:
            InputError: it can be no name of a package.
            UnknownNameError: it is taken.
        """
        if not NAME.fullmatch(name):
            raise InputError(
                f"{name!r} can be no name of a package: letters and digits, words set apart by '-' or '_', beginning "
                "with a letter."
            )
        words = re.split("[-_]", name)
        start = "".join(word[0].upper() + word[1:] for word in words)
        names = cls("-".join(words).lower(), "_".join(words).lower(), start)
        if reason := names._taken():
            raise UnknownNameError(f"The name {name!r} is taken: {reason}. Choose another one.")
        return names

    def _taken(self) -> str:
        if keyword.iskeyword(self.package) or self.package in sys.stdlib_module_names:
            return f"{self.package!r} is a word or a module of Python"
        if card_for(self.model_type) or card_for(self.package):
            return "an architecture of that model type is built in or installed"
        if f"{self.start}Config" in dir(maquette) or f"{self.start}Model" in dir(maquette):
            return f"maquette has classes whose names begin with {self.start}"
        if importlib.util.find_spec(self.package) is not None:
            return f"a package {self.package!r} can be imported here already"
        return ""

    def fill(self, text: str) -> str:
        """Put the names into a template."""
        text = _order_imports(OWN.sub(self.package, text), self.package)
        text = text.replace('"blueprint"', f'"{self.model_type}"')
        return text.replace("Blueprint", self.start).replace("blueprint", self.package)


def make_package(
    name: str,
    *,
    like: str = "decoder",
    folder: str | os.PathLike[str] | None = None,
    frameworks: Iterable[str] = ("torch",),
) -> list[Path]:
    """Make a package that installs: configuration, modeling, card, tests, training; give the files that it wrote.

    Args:
        name: of the package, such as "night-jar".
        like: "decoder", "encoder", "vision", …
        folder: where; a folder of that name in the working directory, unless given. It is empty or not there yet.
        frameworks: "torch", and "keras" or "flax" for the same model in these.

    Raises:
        InputError: the name can be no package's.
        UnknownNameError: there is no such kind or framework, or the name is taken.
        SaveError: there is something in the folder; nothing was written.
    """
    if like not in KINDS:
        raise UnknownNameError(f"There is no kind {like!r}.{did_you_mean(like, KINDS)} Kinds are: {', '.join(KINDS)}.")
    names, chosen = Names.of(name), _check_frameworks(frameworks, like)
    place = user_path(folder if folder is not None else names.model_type)
    _require_empty(place)
    content = {path: names.fill(text) for path, text in _read_templates(like, chosen).items()}
    written = []
    for path, text in content.items():
        target = place / names.fill(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def _check_frameworks(frameworks: Iterable[str], like: str) -> set[str]:
    chosen = {"torch", *([frameworks] if isinstance(frameworks, str) else frameworks)}
    if unknown := sorted(chosen - FRAMEWORKS.keys()):
        raise UnknownNameError(
            f"There is no framework {unknown[0]!r}.{did_you_mean(unknown[0], FRAMEWORKS)} There are: "
            f"{', '.join(FRAMEWORKS)}."
        )
    there = {each for each, module in FRAMEWORKS.items() if not module or (TEMPLATES / like / f"{module}.py").is_file()}
    if missing := sorted(chosen - there):
        raise UnknownNameError(f"A package like {like!r} is made in {', '.join(sorted(there))}; not in {missing[0]}.")
    return chosen


def _require_empty(place: Path) -> None:
    if place.is_dir():
        if there := sorted(entry.name for entry in place.iterdir() if entry.name != ".git"):
            named = ", ".join(there[:5]) + (", …" if len(there) > 5 else "")
            raise SaveError(
                f"The folder {str(place)!r} has something in it ({named}). Give an empty one, or a new one."
            )
    elif os.path.lexists(place):
        raise SaveError(f"{str(place)!r} is no folder. Give an empty one, or a new one.")


def _read_templates(like: str, frameworks: set[str]) -> dict[str, str]:
    """Read what a kind of package is made of, by where it goes."""
    what, extras = KINDS[like]
    left_out = [module for each, module in FRAMEWORKS.items() if module and each not in frameworks]
    found = {}
    for path in sorted([*(TEMPLATES / "common").iterdir(), *(TEMPLATES / like).iterdir()]):
        if not path.is_file() or any(path.stem.endswith(module) for module in left_out):
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        text = "".join(line for line in lines if not any(f"{module}:" in line for module in left_out))
        text = text.replace("@KIND@", what).replace("@YEAR@", str(datetime.date.today().year))
        found[_place(path.name)] = text.replace("EXTRAS", ",".join([extras, *sorted(_extras(frameworks))]))
    return found


def _extras(frameworks: set[str]) -> set[str]:
    return {{"keras": "tf", "flax": "flax"}[each] for each in frameworks - {"torch"}}


def _place(name: str) -> str:
    if name.startswith("test_"):
        return f"tests/{name}"
    if name in ("train.py", "pyproject.toml", "README.md", "LICENSE"):
        return name
    return ".gitignore" if name == "gitignore" else f"src/blueprint/{name}"


def _order_imports(text: str, package: str) -> str:
    """Put the imports of a file into the order that they have outside of maquette, where it is one package of many."""
    found = IMPORTS.search(text)
    if found is None:
        return text
    sections: dict[int, list[str]] = {}
    for statement in IMPORT.findall(found[0]):
        module = re.split(r"[\s.]", statement.partition(" ")[2])[0]  # nothing where the import is relative
        place = 3 if not module else 2 if module == package else 0 if module in sys.stdlib_module_names else 1
        sections.setdefault(place, []).append(statement)
    ordered = ("".join(sorted(sections[place], key=_import_key)) for place in sorted(sections))
    return text[: found.start()] + "\n".join(ordered) + text[found.end() :]


def _import_key(statement: str) -> tuple[bool, str]:
    return statement.startswith("from"), statement.split()[1].lower()
