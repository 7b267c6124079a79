"""What everything that can be saved has in common: strict JSON, `save_pretrained`, `register_for_auto_class`."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

from maquette.errors import FileFormatError
from maquette.transaction import Transaction


def read_json(path: Path, *, label: str | None = None) -> dict[str, Any]:
    """Read one JSON object, refusing what JSON leaves open: two values for one key, or something else than an object.

    Raises:
        FileFormatError: with the file, the place and what stands there.
    """
    name = label or str(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{name} is not JSON: {error}. Mend the file, or save it again.") from error
    except RecursionError as error:
        raise FileFormatError(f"{name} is nested too deeply to be a configuration.") from error
    except _DuplicateKeyError as error:
        raise FileFormatError(f"{name} gives the key {error.key!r} twice; leave one of them in the file.") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{name} holds a JSON {type(content).__name__}, where an object, {{…}}, belongs.")
    return content


def to_json(content: dict[str, Any]) -> str:
    """Write a dictionary in the form of every file of ours: sorted, indented by two, one newline at the end."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


class _DuplicateKeyError(Exception):
    def __init__(self, key: str) -> None:
        self.key = key


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found


class PretrainedMixin:
    """Saving, sharing, and travelling with code; the base of configurations, models and preprocessing classes."""

    _auto_class: ClassVar[str | None] = None
    _default_auto_class: ClassVar[str] = "AutoModel"

    def _write_to(self, transaction: Transaction) -> None:
        """Put this object's files into the save under way."""
        raise NotImplementedError

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, push_to_hub: bool = False, **options: Any
    ) -> None:
        """Save into a folder that `from_pretrained` reads; the folder is old or new, whenever the process dies.

        Args:
            save_directory: a folder, made where it is missing. Its other files stay as they are.
            push_to_hub: also upload what was saved, to the repository `repo_id` (default: the folder's name).
            options: `verify=True` first tries in a fresh process, which does not see your source, whether what is saved
                loads and is the same; further, what the class takes for its `_write_to`, and the options of
                `push_to_hub`.

        Raises:
            SaveError: the target is a file, or something in the object cannot be written. Nothing is changed then.
        """
        verify = options.pop("verify", False)
        hub_options = {name: options.pop(name) for name in HUB_OPTIONS & options.keys()}
        if hub_options and not push_to_hub:
            raise TypeError(f"{', '.join(sorted(hub_options))}: only of use together with push_to_hub=True.")
        with Transaction(save_directory) as transaction:
            self._write_to(transaction, **options)
            if verify:
                from maquette.verification import verify_save

                verify_save(self, transaction, options)
        if transaction.code:
            from maquette.remote_code import record_own_save

            record_own_save(Path(save_directory), *transaction.code)
        if push_to_hub:
            self.push_to_hub(hub_options.pop("repo_id", Path(save_directory).resolve().name), **hub_options, **options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **options: Any,
    ) -> str:
        """Upload what `save_pretrained` writes, as one commit of the repository `repo_id`; gives the commit's URL."""
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            with Transaction(folder) as transaction:
                self._write_to(transaction, **options)
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            message = commit_message or f"Upload {type(self).__name__}"
            commit = api.upload_folder(
                repo_id=url.repo_id, folder_path=folder, commit_message=message, revision=revision, create_pr=create_pr
            )
        return str(commit.commit_url)

    @classmethod
    def register_for_auto_class(cls, auto_class: str | type | None = None) -> type[Self]:
        """Have saves of this class carry its code, to be loaded through `auto_class` by someone who has only the save.

        Args:
            auto_class: the AutoClass or its name; `"AutoConfig"` for configurations, `"AutoModel"` for models, unless
                given.
        """
        from maquette.registry import known_auto_class, remember_travelling_class

        name = auto_class or cls._default_auto_class
        cls._auto_class = known_auto_class(name if isinstance(name, str) else name.__name__)
        remember_travelling_class(cls)
        return cls


HUB_OPTIONS = {"repo_id", "commit_message", "private", "token", "revision", "create_pr"}
