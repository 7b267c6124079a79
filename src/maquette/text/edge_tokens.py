"""The begin and end tokens of decoders: whether a row has them is a setting."""

from typing import Any, ClassVar

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from maquette.errors import InputError
from maquette.text.backend import ask, read_template
from maquette.text.templates import Part, Templates


class Edge:
    """An attribute such as `add_bos_token`: whether rows have that token. It may be set, and is saved once it was."""

    def __init__(self, place: int) -> None:
        self.place = place

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        given = instance.__dict__.get(self.name)
        return instance._edges()[self.place] if given is None else given

    def __set__(self, instance: Any, value: bool) -> None:
        instance.__dict__[self.name] = bool(value)
        instance._specials_changed()


class EdgeTokens(Templates):
    """Rows that begin with `bos_token`, end with `eos_token`, both or neither; for tokenizers with a backend.

    Class attributes:
        default_edges: whether rows have the one and the other, where neither a file nor an argument says so.
        default_tokens: the special tokens, where neither names them.

    A row's tokens are laid out by the tokenizer's file as long as that agrees.
    """

    default_edges: ClassVar[tuple[bool, bool]] = (False, False)
    default_tokens: ClassVar[dict[str, str]] = {}
    _backend: Tokenizer
    _special: dict[str, str]

    add_bos_token, add_eos_token = Edge(0), Edge(1)

    def _note_edges(self, add_bos_token: bool | None, add_eos_token: bool | None, *, is_read: bool = True) -> None:
        """Keep what the constructor was asked for; None leaves it to a `tokenizer.json` that was read, or the class."""
        given = {"add_bos_token": add_bos_token, "add_eos_token": add_eos_token}
        self.__dict__.update({name: bool(value) for name, value in given.items() if value is not None})
        self._made_template = not is_read and self._backend.post_processor is None and any(self.default_edges)

    def _edges(self) -> tuple[bool, bool]:
        """Tell which of the two tokens rows have."""
        parts = [part for part, _ in read_template(self._backend, pair=False)]
        return parts[0] == self._id_of_special("bos_token"), parts[-1] == self._id_of_special("eos_token")

    def _id_of_special(self, name: str) -> int | None:
        token = self._special.get(name)
        return None if token is None else self._find_id(token)  # type: ignore[attr-defined]

    def _specials_changed(self) -> None:
        """Lay rows out anew where they differ from what was asked for; else that is the business of the file."""
        given = [self.__dict__.get(name) for name in ("add_bos_token", "add_eos_token")]
        if self._made_template or given != [None, None]:
            there = self._edges()
            otherwise = self.default_edges if self._made_template else there
            wanted = [known if one is None else one for one, known in zip(given, otherwise, strict=True)]
            if tuple(wanted) != there:
                self._backend.post_processor = self._make_template(*wanted)
        super()._specials_changed()

    def _make_template(self, begin: bool, end: bool) -> TemplateProcessing:
        ids = {name: self._id_of_special(name) for name, has in (("bos_token", begin), ("eos_token", end)) if has}
        tokens = {name: self._special[name] for name, index in ids.items() if index is not None}
        first, last = ([tokens[name]] if name in tokens else [] for name in ("bos_token", "eos_token"))
        form = [[f"{part}:{kind}" for part in (*first, text, *last)] for kind, text in enumerate(("$A", "$B"))]
        special = [(tokens[name], int(ids[name] or 0)) for name in tokens]
        return ask(
            lambda: TemplateProcessing(single=form[0], pair=form[0] + form[1], special_tokens=special),
            lambda why: InputError(f"The tokens {tokens} make no template of the Rust library: {why}."),
        )

    def _read_template(self, *, pair: bool) -> list[Part]:
        return read_template(self._backend, pair=pair)
