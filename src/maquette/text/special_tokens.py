"""The tokens with a task of their own: their attributes, their ids, and what they are called in files."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken

from maquette.errors import InputError, UnknownNameError, did_you_mean

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
ADDITIONAL = "additional_special_tokens"
# What further special tokens come by: a list of them, or a mapping that names them.
FURTHER = (ADDITIONAL, "extra_special_tokens", "model_specific_special_tokens")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def as_added_token(token: Any, *, special: bool, known: Mapping[str, AddedToken] | None = None) -> AddedToken:
    """Give a token with its flags; a plain text has those of the known token, else it is normalised or special.

    Raises:
        InputError: it is neither a text nor an AddedToken, or empty.
    """
    if isinstance(token, str):
        token = (known or {}).get(token) or AddedToken(token, special=special, normalized=not special)
    if isinstance(token, AddedToken):
        added = AddedToken(token.content, **{**flags(token), "special": special or token.special})
    else:
        raise InputError(f"{token!r} ({type(token).__name__}) cannot be a token; give a str or an AddedToken.")
    if not added.content:
        raise InputError("The empty text cannot be a token.")
    return added


def flags(token: AddedToken) -> dict[str, bool]:
    """Give the five flags of a token by name."""
    return {name: bool(getattr(token, name)) for name in FLAGS}


def same(one: AddedToken, other: AddedToken) -> bool:
    """Tell whether two tokens have one content and the same flags."""
    return one.content == other.content and flags(one) == flags(other)


def part_special(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Part special tokens into those with a name and the further ones, whichever of the keys for these they come by.

    Raises:
        InputError: what should be a list of tokens is one text.
    """
    named = {name: value for name, value in given.items() if name not in FURTHER}
    more: list[Any] = []
    for key in FURTHER:
        value = given.get(key) or ()
        if isinstance(value, str | AddedToken):
            raise InputError(f"{key}={str(value)!r}: give a list of tokens, or a mapping of names to tokens.")
        if isinstance(value, Mapping):
            named |= value
        else:
            more += value
    return named, more


class SpecialToken:
    """An attribute such as `cls_token`: the token's text, or None where the tokenizer has none."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return instance._special.get(self.name)

    def __set__(self, instance: Any, token: str | AddedToken | None) -> None:
        instance._set_special(self.name, token)


class SpecialTokenId:
    """An attribute such as `cls_token_id`: the token's id, or None where the tokenizer has none."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name.removesuffix("_id")

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        token = instance._special.get(self.name)
        return None if token is None else instance.convert_tokens_to_ids(token)

    def __set__(self, instance: Any, index: int | None) -> None:
        instance._set_special(self.name, None if index is None else instance.convert_ids_to_tokens(index))


class SpecialTokens:
    """What a tokenizer knows of its special tokens; the base of every tokenizer.

    Setting an attribute takes a token that the vocabulary has, `tokenizer.pad_token = tokenizer.eos_token`; a new token
    is added with `add_special_tokens({"pad_token": "[PAD]"})`. Further tokens with a name of their own, as in
    `extra_special_tokens={"image_token": "<image>"}`, have attributes too: `tokenizer.image_token`, `.image_token_id`.
    """

    _special: dict[str, str]  # texts only: a token's flags are in `added_tokens_decoder`, and nowhere else
    _additional: list[str]

    bos_token, bos_token_id = SpecialToken(), SpecialTokenId()
    eos_token, eos_token_id = SpecialToken(), SpecialTokenId()
    unk_token, unk_token_id = SpecialToken(), SpecialTokenId()
    sep_token, sep_token_id = SpecialToken(), SpecialTokenId()
    pad_token, pad_token_id = SpecialToken(), SpecialTokenId()
    cls_token, cls_token_id = SpecialToken(), SpecialTokenId()
    mask_token, mask_token_id = SpecialToken(), SpecialTokenId()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Find the further special tokens that have a name."""
            if hasattr(type(self), name):  # a property that failed: with its own error, please
                return object.__getattribute__(self, name)
            special = self.__dict__.get("_special", {})
            if name in special:
                return special[name]
            if name.endswith("_id") and (named := name.removesuffix("_id")) in special:
                return self.convert_tokens_to_ids(special[named])
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        named = name.removesuffix("_id")
        if named not in self.__dict__.get("_special", ()) or hasattr(type(self), named):
            return object.__setattr__(self, name, value)
        self._set_special(named, value if named == name or value is None else self.convert_ids_to_tokens(value))

    # What each kind of tokenizer supplies

    def get_vocab(self) -> dict[str, int]:
        """Give every token, added ones included, with its id."""
        raise NotImplementedError(f"{type(self).__name__} must define get_vocab().")

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        raise NotImplementedError

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id."""
        raise NotImplementedError

    def _put_tokens(self, tokens: list[AddedToken]) -> None:
        """Take tokens in, those that are there already with their new flags."""
        raise NotImplementedError

    def _specials_changed(self) -> None:
        """Have what was made from the special tokens made anew."""

    # Reading

    @property
    def additional_special_tokens(self) -> list[str]:
        """The special tokens that have no attribute of their own."""
        return list(self._additional)

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: Iterable[str | AddedToken]) -> None:
        self.add_special_tokens({ADDITIONAL: list(tokens)})

    @property
    def additional_special_tokens_ids(self) -> list[int]:
        """The ids of the special tokens that have no attribute of their own."""
        return [self.convert_tokens_to_ids(token) for token in self.additional_special_tokens]

    extra_special_tokens = additional_special_tokens
    extra_special_tokens_ids = additional_special_tokens_ids

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens by attribute; those that are not set are left out."""
        return self._special | ({ADDITIONAL: self.additional_special_tokens} if self._additional else {})

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, those with attributes first."""
        named = (self._special[name] for name in sorted(self._special, key=_order))
        return list(dict.fromkeys((*named, *self._additional)))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of `all_special_tokens`."""
        return [self.convert_tokens_to_ids(token) for token in self.all_special_tokens]

    # Adding

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add tokens that texts are cut at before anything else; gives how many the vocabulary did not have.

        Args:
            new_tokens: a text, an `AddedToken` with flags, or a list of them. A token that is there already takes the
                flags of an `AddedToken` and keeps its own where a text names it; one with an attribute stays special.
                Resize the model's embeddings to `len(tokenizer)` afterwards.
            special_tokens: whether decoding may skip them.
        """
        items = [new_tokens] if isinstance(new_tokens, str | AddedToken) else list(new_tokens)
        special, known = {*self.all_special_tokens}, self._known_tokens(items)
        tokens = [as_added_token(t, special=special_tokens or str(t) in special, known=known) for t in items]
        before = len(self)
        self._put_tokens(tokens)
        self._additional += [token.content for token in tokens if token.special and token.content not in special]
        self._specials_changed()
        return len(self) - before

    def _known_tokens(self, given: Iterable[Any]) -> dict[str, AddedToken]:
        """Give the flags that plain texts stand for: those of the added tokens, and of tokens given beside them."""
        known = {token.content: token for token in self.added_tokens_decoder.values()}
        return known | {token.content: token for token in given if isinstance(token, AddedToken)}

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_additional_special_tokens: bool = True
    ) -> int:
        """Set special tokens by attribute, adding those that are new; gives how many the vocabulary did not have.

        Args:
            special_tokens_dict: `{"cls_token": "[CLS]", "additional_special_tokens": ["<a>", "<b>"]}`. Tokens with a
                name of your own: `{"extra_special_tokens": {"image_token": "<image>"}}`.
            replace_additional_special_tokens: whether the list given takes the place of the one there is.

        Raises:
            UnknownNameError: there is no special token of that name; the message has the nearest.
        """
        names = {*SPECIAL_TOKENS, *self._own_special_names(), *self._special, *FURTHER}
        for name in special_tokens_dict:
            if name not in names:
                raise UnknownNameError(
                    f"There is no special token {name!r}.{did_you_mean(name, names)} One with a name of your own: "
                    f"{{'extra_special_tokens': {{{name!r}: …}}}}."
                )
        before = len(self)
        named, more = part_special(special_tokens_dict)
        more = self._put_special(named, more)
        if more:
            kept = [] if replace_additional_special_tokens else self._additional
            self._additional = list(dict.fromkeys((*kept, *more)))
        return len(self) - before

    def _put_special(self, named: Mapping[str, Any], more: Iterable[Any]) -> list[str]:
        """Take special tokens in, those with a name as attributes; gives the texts of the others."""
        given = [*named.values(), *more]
        known = self._known_tokens(given)
        tokens = [as_added_token(token, special=True, known=known) for token in given]
        self._put_tokens(tokens)
        texts = [token.content for token in tokens]
        self._special.update(zip(named, texts, strict=False))
        self._specials_changed()
        return texts[len(named) :]

    @classmethod
    def _own_special_names(cls) -> set[str]:
        """Name the special tokens that the class has beside those of every tokenizer: its `SpecialToken` attributes."""
        return {name for base in cls.__mro__ for name, value in vars(base).items() if isinstance(value, SpecialToken)}

    def _set_special(self, name: str, token: str | AddedToken | None) -> None:
        if token is None:
            self._special.pop(name, None)
            return self._specials_changed()
        content = as_added_token(token, special=True).content
        if content not in self.get_vocab():
            raise UnknownNameError(
                f"{name} = {content!r}: the vocabulary has no such token."
                f"{did_you_mean(content, self.all_special_tokens)} To add it: "
                f"add_special_tokens({{{name!r}: {content!r}}})."
            )
        self.add_special_tokens({name: token})


def _order(name: str) -> int:
    return SPECIAL_TOKENS.index(name) if name in SPECIAL_TOKENS else len(SPECIAL_TOKENS)
