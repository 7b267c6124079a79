"""What everything that can be saved has in common: `save_pretrained`, `push_to_hub`, `register_for_auto_class`.

What only a save, a push or a registration needs is imported there, since a load should not wait for it.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self

from maquette.errors import did_you_mean
from maquette.storage.transaction import Transaction


@contextlib.contextmanager
def committing(folder: str | os.PathLike[str]) -> Iterator[Transaction]:
    """Save what is written inside a `with` block, all of it or nothing, and record code of our own as approved."""
    with Transaction(folder) as transaction:
        yield transaction
    if transaction.code:
        from maquette.remote_code.trust import record_own_save

        record_own_save(transaction.folder, *transaction.code, transaction.part_maps)


HUB_OPTIONS = frozenset(
    {"repo_id", "commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags", "dry_run"}
)


class PretrainedMixin:
    """Saving, sharing, and code that goes along; the base of configurations, models and preprocessing classes."""

    _auto_class: ClassVar[str | None] = None
    _default_auto_class: ClassVar[str] = "AutoModel"
    _merges_into: ClassVar[tuple[str, ...]] = ()  # files that a save of this changes instead of replacing

    @property
    def _kept(self) -> dict[str, Any]:
        """What files say beside the settings: the code that goes along, and what it needs."""
        kept: dict[str, Any] = self.__dict__.setdefault("_kept", {})
        return kept

    @property
    def auto_map(self) -> dict[str, Any]:
        """Which classes of the folder's own code the AutoClasses load; empty for built-in classes."""
        found = self._kept.get("auto_map") or {}
        return {self._default_auto_class: found} if isinstance(found, list) else dict(found)  # older files hold a list

    @auto_map.setter
    def auto_map(self, value: dict[str, Any]) -> None:
        self._kept["auto_map"] = dict(value or {})

    def _write_to(self, transaction: Transaction) -> None:
        """Put this object's files into the save under way."""
        raise NotImplementedError

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, push_to_hub: bool = False, **options: Any
    ) -> None:
        """Save into a folder that `from_pretrained` reads; the folder is old or new, whenever the process dies.

        Args:
            save_directory: a folder, made where it is missing. Its other files stay as they are.
            push_to_hub: also send what was saved, and nothing else of the folder, to the repository `repo_id`
                (default: the folder's name).
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
        if "dry_run" in hub_options:
            raise TypeError("dry_run: this saves. To see what would be sent, call push_to_hub(…, dry_run=True).")
        self._refuse_unknown_options(options, "save_pretrained")
        with committing(save_directory) as transaction:
            self._write_to(transaction, **options)
            if verify:
                from maquette.pretrained.verification import verify_save

                verify_save(self, transaction, options)
        if push_to_hub:
            from maquette.hub.upload import PushOptions, push

            repo_id = hub_options.pop("repo_id", transaction.folder.resolve().name)
            saved = None if self._merges_into else transaction  # what is merged is merged with what the Hub has
            push(self, repo_id, PushOptions(**hub_options), saved=saved, **options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        tags: Sequence[str] = (),
        dry_run: bool = False,
        **options: Any,
    ) -> Any:
        """Send what `save_pretrained` writes to a repository of the Hub, as one commit; its other files stay.

        The repository is made where it is missing, and so is its README.md, which says what this is and how to load
        it. One that is there stays as it is.

        Args:
            repo_id: `"user/name"`, or `"name"` for a repository of the user who is logged in.
            commit_message: the first line of the commit's message.
            commit_description: the rest of it.
            private: True for a repository that only you see. One that is public already is refused then.
            token: the token itself; unless given, the one of `maquette.login()`.
            revision: the branch, made from `main` where it is missing.
            create_pr: open a pull request instead, against `revision`.
            tags: added to the header of README.md.
            dry_run: send nothing, and give the list of what would be sent.
            options: what `save_pretrained` takes, such as `max_shard_size`.

        Returns:
            The commit, which is a text, its URL, and has `oid` and `pr_url`; with `dry_run`, an `Upload`: its files,
            each with `path`, `size`, `kind` (`"regular"` or `"lfs"`) and `state` (`"new"`, `"changed"`, …).

        Raises:
            SaveError: what keeps it from being sent, and what to do; no commit was made.
        """
        from maquette.hub.upload import PushOptions, push

        self._refuse_unknown_options(options, "push_to_hub")
        how = PushOptions(
            commit_message=commit_message,
            commit_description=commit_description,
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            tags=tags,
            dry_run=dry_run,
        )
        return push(self, repo_id, how, **options)

    def _refuse_unknown_options(self, options: Iterable[str], method: str) -> None:
        """Refuse a keyword that neither saving nor sending takes, with the nearest name there is."""
        import inspect

        parameters = list(inspect.signature(self._write_to).parameters.values())[1:]
        known = {one.name for one in parameters}
        if unknown := [name for name in options if name not in known]:
            if any(one.kind is one.VAR_KEYWORD for one in parameters):
                return
            suggestion = did_you_mean(unknown[0], {*known, *HUB_OPTIONS})
            raise TypeError(f"{type(self).__name__}.{method} has no option {unknown[0]!r}.{suggestion}")

    @classmethod
    def register_for_auto_class(cls, auto_class: str | type | None = None) -> type[Self]:
        """Have saves of this class carry its code, to be loaded through `auto_class` by someone who has only the save.

        Args:
            auto_class: the AutoClass or its name; `"AutoConfig"` for configurations, `"AutoModel"` for models, unless
                given.
        """
        from maquette.registry import known_auto_class, remember_bundled_class

        name = auto_class or cls._default_auto_class
        cls._auto_class = known_auto_class(name if isinstance(name, str) else name.__name__)
        remember_bundled_class(cls)
        return cls
