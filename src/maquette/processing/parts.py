"""The parts of a processor: which a class declares, whether an object is the right kind, and loading each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from maquette.configuration.schema import MISSING, Field
from maquette.errors import ConfigurationError, InputError, UnknownNameError
from maquette.hub.sources import Source, Subfolder
from maquette.processing.class_lookup import class_by_name, class_name, find_class
from maquette.processing.settings import read_preprocessor_file
from maquette.registry import registered_classes
from maquette.remote_code.loading import load_remote_class

# The kinds of parts, by the ending of a part's name; the AutoClass of each, and the keyword its data comes by.
AUTO_CLASS = {
    "tokenizer": "AutoTokenizer",
    "image_processor": "AutoImageProcessor",
    "feature_extractor": "AutoFeatureExtractor",
}
DATA = {"image_processor": "images", "tokenizer": "text", "feature_extractor": "audio"}
ANY = {*AUTO_CLASS.values(), "AutoProcessor", "PreTrainedTokenizerBase", "FeatureExtractionMixin"}


@dataclass(frozen=True, slots=True)
class Part:
    """One part that a processor class declares.

    Attributes:
        name: the attribute, such as `"tokenizer"` or `"second_tokenizer"`.
        kind: a key of `AUTO_CLASS`.
        wanted: the classes that it may be of, or their names; empty where any of the kind will do.
        optional: whether None will do, too.
    """

    name: str
    kind: str
    wanted: tuple[type | str, ...] = ()
    optional: bool = False

    def check(self, value: Any, owner: str) -> None:
        """Refuse an object that is not what the part has to be.

        Raises:
            InputError: naming the part, what belongs there and what was given.
        """
        if value is None and self.optional:
            return
        if kind_of(value) == self.kind and (not self.wanted or self.fits(type(value))):
            return
        names = " or ".join(_name(one) for one in self.wanted) or _spoken(self.kind)
        found = f"{type(value).__name__}, {_spoken(kind)}" if (kind := kind_of(value)) else type(value).__name__
        raise InputError(f"{owner}: {self.name} must be {names}, not {found}.")

    def fits(self, cls: type) -> bool:
        """Tell whether a class is one of the wanted ones, by itself, a base, or the other kind of its tokenizer."""
        bases = {base.__name__.removesuffix("Fast") for base in cls.__mro__}
        return any(
            issubclass(cls, one) if isinstance(one, type) else one.removesuffix("Fast") in bases for one in self.wanted
        )


def _name(one: type | str) -> str:
    return one if isinstance(one, str) else one.__name__


def _spoken(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind.replace('_', ' ')}"


def kind_of(value: Any) -> str | None:
    """Tell what kind of part an object is, or None for what is none."""
    section: str | None = getattr(type(value), "_section", None)
    if section in AUTO_CLASS:
        return section
    return "tokenizer" if getattr(type(value), "_default_auto_class", "") == "AutoTokenizer" else None


def kind_by_name(name: str) -> str | None:
    """Tell what kind of part an attribute of this name is."""
    return next((kind for kind in AUTO_CLASS if name == kind or name.endswith(f"_{kind}")), None)


def declared_parts(cls: type, fields: Mapping[str, Field]) -> dict[str, Part]:
    """List the parts of a processor class: its `attributes`, else what it annotates or its constructor takes.

    Raises:
        ConfigurationError: it has none, or one whose name says no kind.
    """
    names = list(getattr(cls, "attributes", None) or [name for name in fields if kind_by_name(name)])
    if not names:  # processors from Transformers that only say `tokenizer_class = …`
        hints = [name.removesuffix("_class") for base in cls.__mro__ for name in vars(base) if name.endswith("_class")]
        names = [name for name in hints if kind_by_name(name)]
    parts: dict[str, Part] = {}
    for name in names:
        kind = kind_by_name(name)
        if kind is None:
            raise ConfigurationError(
                f"{cls.__name__}: the part {name!r} must have a name that ends in {', '.join(AUTO_CLASS)}."
            )
        parts[name] = Part(name, kind, *_wanted(cls, name, fields.get(name)))
    if not parts:
        raise ConfigurationError(
            f"{cls.__name__} has no parts. Annotate them in the class, as `tokenizer: PreTrainedTokenizerBase`, or "
            'name them: attributes = ["image_processor", "tokenizer"].'
        )
    return parts


def _wanted(cls: type, name: str, field: Field | None) -> tuple[tuple[type | str, ...], bool]:
    """Give the classes that a part may be of, and whether it may be None."""
    hint = getattr(cls, f"{name}_class", None)
    if hint is None and field is not None and field.annotation is not MISSING:
        hint = field.annotation
    union = get_origin(hint) in (Union, UnionType)
    each = get_args(hint) if union else hint if isinstance(hint, tuple | list) else (hint,)
    optional = (field is not None and field.default is None) or (union and type(None) in each)
    classes = tuple(one for one in each if isinstance(one, type | str) and one not in (type(None), Any))
    return (() if any(_name(one) in ANY for one in classes) else classes), optional


# Classes and loading -----------------------------------------------------------------------------------------------


def load_part(part: Part, source: Source, cls: Any, *, trust: bool | str | None, overrides: Mapping[str, Any]) -> Any:
    """Load one part of a processor of class `cls` from its folder.

    Raises:
        UnknownNameError: its class is unknown.
        UntrustedCodeError: it is code of the folder's, and the caller did not trust it.
    """
    if part.kind == "tokenizer":
        place = _tokenizer_place(part, source)
        return _tokenizer_class(part, place, cls, trust).from_source(place, **overrides)
    content, label = read_preprocessor_file(source, part.name)
    return _class_of(part, content, source, cls, trust)._read(content, dict(overrides), label)


def part_class(part: Part, source: Source, cls: Any, *, trust: bool | str | None) -> Any:
    """Find the class that `load_part` takes."""
    if part.kind == "tokenizer":
        return _tokenizer_class(part, _tokenizer_place(part, source), cls, trust)
    return _class_of(part, read_preprocessor_file(source, part.name)[0], source, cls, trust)


def _tokenizer_place(part: Part, source: Source) -> Source:
    """Give where the files of a tokenizer lie: beside the others, those of a second one in a folder of its name."""
    return source if part.name == part.kind else Subfolder(source, part.name)


def _declared(part: Part, cls: type) -> list[Any]:
    """Give the classes that a part may be of, the last one preferred; unknown names are passed over."""
    found = (one if isinstance(one, type) else _class_named(one, part.kind, cls) for one in part.wanted)
    return [one for one in found if one is not None]


def _class_named(name: str, kind: str, cls: type) -> Any:
    """Find a class by name: registered by the user, beside the processor's class, or public here."""
    import sys

    import maquette

    known = {one.__name__: one for one in registered_classes(AUTO_CLASS[kind])}
    beside = vars(sys.modules.get(cls.__module__, maquette)).get(name)
    return known.get(name) or beside or (getattr(maquette, name) if name in dir(maquette) else None)


def _tokenizer_class(part: Part, source: Source, cls: type, trust: bool | str | None) -> Any:
    declared = _declared(part, cls)
    try:
        found = find_class("AutoTokenizer", source, None, trust)
    except UnknownNameError:
        if not declared:
            raise
        return declared[-1]
    return found if not declared or part.fits(found) else declared[-1]


def _class_of(part: Part, content: Mapping[str, Any], source: Source, cls: type, trust: bool | str | None) -> Any:
    """Find the class of a feature extractor or an image processor from the settings that were saved."""
    auto_class = AUTO_CLASS[part.kind]
    named = class_name(auto_class, content)
    declared = _declared(part, cls)
    if same := [one for one in declared if one.__name__ == named]:
        return same[0]
    auto_map = content.get("auto_map")
    if isinstance(auto_map, Mapping) and auto_class in auto_map:
        return load_remote_class(source, auto_map, auto_class, trust=trust)
    found = class_by_name(auto_class, named) if named else None
    if found is not None and (not declared or part.fits(found)):
        return found
    return declared[-1] if declared else find_class(auto_class, source, None, trust)


# Folders in folders ------------------------------------------------------------------------------------------------


def of_kind(parts: Mapping[str, Part]) -> Iterator[tuple[str, str]]:
    """Give for each kind the first part of it, the one that a call uses: kind and name."""
    seen: set[str] = set()
    for name in sorted(parts, key=lambda name: name != parts[name].kind):
        if parts[name].kind not in seen:
            seen.add(parts[name].kind)
            yield parts[name].kind, name
