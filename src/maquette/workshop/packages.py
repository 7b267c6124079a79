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
    "two-tower": ("a model that compares images with texts", "train,vision"),
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*")
IMPORT = re.compile(r"^(?:import .*|from .* import (?:\([^)]*\)|[^(\n]*))\n", re.MULTILINE)
IMPORTS = re.compile(rf"(?:{IMPORT.pattern}\n*)*{IMPORT.pattern}", re.MULTILINE)
OWN = re.compile(r"maquette\.workshop\.templates\.\w+")
# How the names of a framework's files end, and the extra that installs it.
FRAMEWORKS = {"torch": "", "keras": "tf", "flax": "flax"}
OTHER_NAMES = {"tf": "keras", "tensorflow": "keras", "jax": "flax", "pytorch": "torch"}


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
            valid = re.sub("[^A-Za-z0-9]+", "-", name).strip("-").lstrip("0123456789-")
            raise InputError(
                f"{name!r} can be no name of a package: letters and digits, words set apart by '-' or '_', beginning "
                f"with a letter{f', such as {valid!r}' if valid else ''}."
            )
        words = re.split("[-_]", name)
        start = "".join(word[0].upper() + word[1:] for word in words)
        names = cls("-".join(words).lower(), "_".join(words).lower(), start)
        if reason := names._taken():
            raise UnknownNameError(
                f"The name {name!r} is taken: {reason}. Choose another one, such as 'my-{names.model_type}'."
            )
        return names

    def _taken(self) -> str:
        if keyword.iskeyword(self.package) or self.package in sys.stdlib_module_names:
            return f"{self.package!r} is a word or a module of Python"
        if card_for(self.model_type) or card_for(self.package):
            return "an architecture of that model type is built in or installed"
        if f"{self.start}Config" in dir(maquette) or f"{self.start}Model" in dir(maquette):
            return f"maquette has classes whose names begin with {self.start}"
        found = importlib.util.find_spec(self.package)
        if found is not None and found.origin is not None:  # a mere folder is no package
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
        like: "decoder", "encoder", "vision", "speech" or "two-tower".
        folder: where; a folder of that name in the working directory, unless given. It is empty or not there yet.
        frameworks: "keras" and "flax", for the same model in these; it is always there in "torch", which trains it.

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
    content = {names.fill(path): names.fill(text) for path, text in _read_templates(like, chosen).items()}
    written = []
    for path, text in sorted(content.items()):
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def _check_frameworks(frameworks: Iterable[str], like: str) -> set[str]:
    chosen = {"torch", *([frameworks] if isinstance(frameworks, str) else frameworks)}
    if unknown := sorted(chosen - FRAMEWORKS.keys()):
        meant = did_you_mean(OTHER_NAMES.get(unknown[0].lower(), unknown[0]), FRAMEWORKS)
        raise UnknownNameError(f"There is no framework {unknown[0]!r}.{meant} Frameworks are: {', '.join(FRAMEWORKS)}.")
    there = [each for each, end in FRAMEWORKS.items() if not end or (_folder(like) / f"modeling_{end}.py").is_file()]
    if missing := sorted(chosen - set(there)):
        others = [kind for kind in KINDS if (_folder(kind) / f"modeling_{FRAMEWORKS[missing[0]]}.py").is_file()]
        raise UnknownNameError(
            f"A package like {like!r} is made in {' and '.join(there)}, not in {missing[0]}. What is made in "
            f"{missing[0]}: {', '.join(others)}."
        )
    return chosen


def _folder(like: str) -> Path:
    return TEMPLATES / like.replace("-", "_")


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
    left_out = [end for each, end in FRAMEWORKS.items() if end and each not in frameworks]
    found = {}
    for path in [*(TEMPLATES / "common").iterdir(), *_folder(like).iterdir()]:
        if not path.is_file() or any(path.stem.endswith(f"_{end}") for end in left_out):
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        text = "".join(line for line in lines if not any(f"modeling_{end}" in line for end in left_out))
        text = text.replace("@KIND@", what).replace("@YEAR@", str(datetime.date.today().year))
        needed = [extras, *(FRAMEWORKS[each] for each in sorted(frameworks) if FRAMEWORKS[each])]
        found[_place(path.name)] = text.replace("EXTRAS", ",".join(needed))
    return found


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
