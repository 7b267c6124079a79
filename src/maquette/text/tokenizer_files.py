"""A tokenizer's folder, in Transformers' layout: what is read of it, what is written, and what is never believed.

    tokenizer_config.json    what the constructor takes, and the added tokens by id
    special_tokens_map.json  the special tokens by attribute; read where an old folder has them only here
    chat_template.jinja      the template of conversations; see chat_templates
    added_tokens.json        the ids of tokens beyond the vocabulary; read where an old folder has them only here
    tokenizer.json           the whole tokenizer for the Rust library
    vocab.txt and the like   what the class's `vocab_files_names` says

A file of the folder never names another file to open: such keys in `tokenizer_config.json` are passed over.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from tokenizers import AddedToken

from maquette.errors import FileFormatError, MissingFileError, SaveError
from maquette.hub.sources import CONFIG_NAME, Source, open_source, take_source_options
from maquette.pretrained.mixin import PretrainedMixin
from maquette.storage.json_files import read_json, to_json
from maquette.storage.transaction import Transaction
from maquette.storage.version import __version__
from maquette.text.chat_templates import find_templates, write_templates
from maquette.text.special_tokens import ADDITIONAL, FLAGS, FURTHER, SPECIAL_TOKENS, flags

CONFIG_FILE, TOKENIZER_FILE = "tokenizer_config.json", "tokenizer.json"
SPECIAL_FILE, ADDED_FILE = "special_tokens_map.json", "added_tokens.json"
# Keys of tokenizer_config.json that are no arguments: bookkeeping, and names of files, which no file may give.
CODE = ("auto_map", "code_requirements")
BOOKKEEPING = {*CODE, "tokenizer_class", "maquette_version", "transformers_version", "init_inputs", "backend"}
FILE_ARGUMENTS = {"special_tokens_map_file", "tokenizer_file", "tokenizer_object", "vocab_file", "merges_file", "vocab"}
LEFTOVERS = {
    "merges",
    "name_or_path",
    "is_local",
    "local_files_only",
    "files_loaded",
    "processor_class",
}
NOT_ARGUMENTS = BOOKKEEPING | FILE_ARGUMENTS | LEFTOVERS
KEPT = (*CODE, "processor_class", "transformers_version")
# What the constructor of every tokenizer takes besides the special tokens, with its default.
SETTINGS: dict[str, Any] = {
    "model_max_length": None,
    "padding_side": None,
    "truncation_side": None,
    "model_input_names": None,
    "clean_up_tokenization_spaces": None,
    "split_special_tokens": False,
    "pad_token_type_id": 0,
    "name_or_path": "",
    "added_tokens_decoder": None,
    ADDITIONAL: None,
    "extra_special_tokens": None,
    "model_specific_special_tokens": None,
    "chat_template": None,
}


class TokenizerFiles(PretrainedMixin):
    """Saving and loading of tokenizers."""

    vocab_files_names: ClassVar[dict[str, str]] = {}
    reads_tokenizer_json: ClassVar[bool] = False
    _default_auto_class: ClassVar[str] = "AutoTokenizer"

    # Loading

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *init_inputs: Any,
        trust_remote_code: bool | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a tokenizer from a folder, a repository of the Hub, or its one vocabulary file.

        Args:
            pretrained_model_name_or_path: what to read.
            init_inputs, kwargs: arguments of the constructor that take the place of saved ones; and `revision`,
                `subfolder`, `token`, `cache_dir`, `local_files_only`, `force_download` for where to read from.
            trust_remote_code: accepted for the sake of code that passes it everywhere; this class is already code.

        Raises:
            MissingFileError: there is no such folder, or no vocabulary in it.
            FileFormatError: a file is not what it should be; the message says which, and where.
            UnknownFieldError: a keyword that the constructor does not take.
        """
        with open_source(pretrained_model_name_or_path, **take_source_options(kwargs)) as source:
            return cls.from_source(source, *init_inputs, **kwargs)

    @classmethod
    def from_source(cls, source: Source, *init_inputs: Any, **kwargs: Any) -> Self:
        """Load the tokenizer of a source that is already open."""
        files = cls._locate_files(source)
        single = source.config_name != CONFIG_NAME
        config = {} if single else _read(source, CONFIG_FILE)
        config = {name: value for name, value in config.items() if name not in cls.vocab_files_names}
        saved = {
            name: _read_argument(name, value, source) for name, value in config.items() if name not in NOT_ARGUMENTS
        }
        if not single:
            saved |= _legacy_tokens(source, saved, whole=cls.reads_tokenizer_json)
        if not single and (templates := find_templates(source)):
            saved["chat_template"] = templates
        saved["added_tokens_decoder"] = _decoder(saved.get("added_tokens_decoder"), source)
        arguments = cls._adapt({**saved, **cls._read_files(source, files, saved)}, kwargs)
        known = cls._known_arguments()
        extra = {
            name: arguments.pop(name) for name in list(arguments) if name not in known and not name.endswith("_token")
        }
        tokenizer = cls(*init_inputs, **{**arguments, **kwargs, "name_or_path": source.label})
        tokenizer.__dict__["_extra"] = extra | {name: config[name] for name in KEPT if name in config}
        return tokenizer

    @classmethod
    def _known_arguments(cls) -> set[str]:
        own: set[str] = cls._own_arguments()  # type: ignore[attr-defined]
        return {*SETTINGS, *SPECIAL_TOKENS, *own}

    @classmethod
    def _locate_files(cls, source: Source) -> dict[str, Path]:
        """Find the class's own files, by argument; where the user named one file, it is the one."""
        if source.config_name != CONFIG_NAME:
            path = source.find(source.config_name)
            names = [
                n for n in cls.vocab_files_names if (n == "tokenizer_file") == source.config_name.endswith(".json")
            ]
            argument = (names or list(cls.vocab_files_names) or ["vocab_file"])[0]
            return {argument: path} if path else {}
        found = {argument: source.find(name) for argument, name in cls.vocab_files_names.items()}
        files = {argument: path for argument, path in found.items() if path is not None}
        if cls.vocab_files_names and not files and source.find(TOKENIZER_FILE) is None:
            wanted = " or ".join(sorted({*cls.vocab_files_names.values()}))
            raise MissingFileError(
                f"{source.label!r} holds no vocabulary for {cls.__name__}: {wanted} is not there. "
                f"It holds: {', '.join(source.names()[:12]) or 'no files'}.{source.note}"
            )
        return files

    @classmethod
    def _read_files(cls, source: Source, files: dict[str, Path], saved: dict[str, Any]) -> dict[str, Any]:
        """Give the constructor's arguments that the class's files stand for."""
        return {argument: str(path) for argument, path in files.items()}

    @classmethod
    def _adapt(cls, arguments: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Change saved arguments before they reach the constructor."""
        return arguments

    # Saving

    @property
    def _kept(self) -> dict[str, Any]:
        kept: dict[str, Any] = self.__dict__["_extra"]
        return kept

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the vocabulary's files into a folder, and give their paths."""
        raise NotImplementedError(
            f"{type(self).__name__} must define save_vocabulary(save_directory, filename_prefix)."
        )

    def _write_to(self, transaction: Transaction) -> None:
        transaction.write(CONFIG_FILE, to_json(self.to_config() | self._pack_code(transaction)))
        transaction.write(SPECIAL_FILE, to_json(self.special_tokens_map))  # type: ignore[attr-defined]
        beyond = {name: i for name, i in self.get_added_vocab().items() if i >= self.vocab_size}  # type: ignore[attr-defined]
        if beyond:
            transaction.write(ADDED_FILE, to_json(beyond))
        else:
            transaction.remove(ADDED_FILE)
        write_templates(transaction, self.chat_template)  # type: ignore[attr-defined]
        self._write_vocabulary(transaction)

    def _pack_code(self, transaction: Transaction) -> dict[str, Any]:
        """Stage the code of the class, where it goes along; gives what the file says of it."""
        from maquette.remote_code.bundling import pack_code

        stub = object.__new__(type(self))
        stub.__dict__["_extra"] = {name: value for name, value in self._kept.items() if name in CODE}
        pack_code(type(self), stub, transaction)
        return {name: value for name, value in stub._kept.items() if value}

    def _write_vocabulary(self, transaction: Transaction) -> None:
        """Stage what `save_vocabulary` writes; a `tokenizer.json` of another tokenizer goes."""
        transaction.remove(TOKENIZER_FILE)
        with tempfile.TemporaryDirectory() as folder:
            self.save_vocabulary(folder)
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    transaction.write(path.relative_to(folder).as_posix(), path.read_bytes())

    def to_config(self) -> dict[str, Any]:
        """Give the content of `tokenizer_config.json`."""
        config = {name: value for name, value in self._kept.items() if name not in CODE}
        arguments = self._arguments()
        arguments.pop("chat_template", None)  # a file of its own
        config |= {name: _plain(value, name) for name, value in arguments.items()}
        special = self.special_tokens_map  # type: ignore[attr-defined]
        own = {*SPECIAL_TOKENS, *self._own_special_names(), ADDITIONAL}  # type: ignore[attr-defined]
        config |= {name: token for name, token in special.items() if name in own}
        if named := {name: token for name, token in special.items() if name not in own}:
            config["extra_special_tokens"] = named
        decoder: dict[int, AddedToken] = self.added_tokens_decoder  # type: ignore[attr-defined]
        config["added_tokens_decoder"] = {
            str(index): {"content": token.content, **flags(token)} for index, token in decoder.items()
        }
        return config | {"tokenizer_class": self._saved_class_name(), "maquette_version": __version__}

    def _arguments(self) -> dict[str, Any]:
        """Give the constructor's arguments as they are now: the attribute of that name, else what was given."""
        own = self._own_arguments() - {*self.vocab_files_names, *SPECIAL_TOKENS, *NOT_ARGUMENTS}  # type: ignore[attr-defined]
        given = {name: self._given[name] for name in own if name in self._given}  # type: ignore[attr-defined]
        current = {name: self.__dict__[name] for name in own if name in self.__dict__}
        names = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces")
        values = {**given, **current} | {name: getattr(self, name) for name in names}
        if self.model_input_names != type(self).model_input_names:  # type: ignore[attr-defined]
            values["model_input_names"] = self.model_input_names  # type: ignore[attr-defined]
        if self.split_special_tokens:  # type: ignore[attr-defined]
            values["split_special_tokens"] = True
        if self.chat_template is not None:  # type: ignore[attr-defined]
            values["chat_template"] = self.chat_template  # type: ignore[attr-defined]
        return values

    def _saved_class_name(self) -> str:
        return type(self).__name__


def _read(source: Source, name: str) -> dict[str, Any]:
    path = source.find(name)
    return {} if path is None else read_json(path, label=f"{source.label}/{name}")


def _read_argument(name: str, value: Any, source: Source) -> Any:
    """Turn what a file writes for AddedTokens into them: tagged ones anywhere, and untagged ones of special tokens."""
    special = name in FURTHER or name.endswith("_token")

    def read(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(read, value))
        if not isinstance(value, dict):
            return value
        is_token = value.get("__type") == "AddedToken" or (special and isinstance(value.get("content"), str))
        return read_token(value, source.label) if is_token else {key: read(item) for key, item in value.items()}

    return read(value)


def read_token(value: Any, place: str) -> AddedToken:
    """Read one token of a file: its content and its flags.

    Raises:
        FileFormatError: it has no content, or a flag is not true or false.
    """
    if isinstance(value, str):
        return AddedToken(value, normalized=False, special=True)
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str) or not value["content"]:
        raise FileFormatError(f"{place}: {value!r:.80} is no token; it needs a content, a text that is not empty.")
    chosen = {name: value[name] for name in FLAGS if name in value}
    for name, flag in chosen.items():
        if not isinstance(flag, bool):
            raise FileFormatError(
                f"{place}: the token {value['content']!r} has {name}={flag!r}, which must be true or false."
            )
    return AddedToken(value["content"], **chosen)


def _decoder(value: Any, source: Source) -> dict[int, AddedToken]:
    place = f"{source.label}/{CONFIG_FILE}: added_tokens_decoder"
    if not isinstance(value or {}, dict):
        raise FileFormatError(f"{place} must map ids to tokens, not be {value!r:.60}.")
    try:
        return {int(index): read_token(token, place) for index, token in (value or {}).items()}
    except ValueError as error:
        raise error if isinstance(error, FileFormatError) else FileFormatError(f"{place}: {error}.") from None


def _legacy_tokens(source: Source, saved: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """Read the tokens that folders before `added_tokens_decoder` keep in files of their own.

    Args:
        source, saved: the folder, and what its `tokenizer_config.json` says.
        whole: whether a `tokenizer.json` is read too, which knows the added tokens with their flags.
    """
    if saved.get("added_tokens_decoder"):
        return {}
    special = _read(source, SPECIAL_FILE)
    found: dict[str, Any] = {}
    for name, value in special.items():
        if name in saved or value is None:
            continue
        value = _read_argument(name, value, source)
        named = name in FURTHER and isinstance(value, dict)
        items = value.values() if named else value if isinstance(value, list) else [value]
        for item in items:
            if not isinstance(item, str | AddedToken):
                read_token(item, f"{source.label}/{SPECIAL_FILE}")  # says what it lacks
        found[name] = value
    if whole and source.find(TOKENIZER_FILE):
        return found
    added = _read(source, ADDED_FILE)
    names = {str(t) if isinstance(t, str) else t.content for t in _flat({**saved, **found}.values())}
    decoder = {str(index): _legacy(content, content in names) for content, index in added.items()}
    return found | ({"added_tokens_decoder": decoder} if decoder else {})


def _legacy(content: str, special: bool) -> dict[str, Any]:
    return {"content": content, "special": special, "normalized": not special}


def _flat(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += _flat(value) if isinstance(value, list) else [value] if isinstance(value, str | AddedToken) else []
    return found


def _plain(value: Any, name: str) -> Any:
    """Turn an argument's value into what JSON can hold, or say which one cannot be saved."""
    if isinstance(value, AddedToken):
        return {"__type": "AddedToken", "content": value.content, **flags(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item, name) for item in value]
        return sorted(items) if isinstance(value, set | frozenset) else items
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise SaveError(
            f"The argument {name!r} is a {type(value).__name__}, which JSON cannot hold; if it is a file, name it in "
            "vocab_files_names."
        ) from None
    return value
