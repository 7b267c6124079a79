"""What a path means that a user wrote: one way for everything that is read or written."""

import os
from pathlib import Path

from maquette.errors import MissingFileError, SaveError

# What a file is called, and a folder of a save is not.
_ENDINGS = """
    .bin .ckpt .gguf .h5 .html .json .jsonl .keras .md .model .msgpack .npz .onnx .pt .pth .py .safetensors .txt .yaml
    .yml .zip
"""
FILE_ENDINGS = frozenset(_ENDINGS.split())


def user_path(path: str | os.PathLike[str]) -> Path:
    """Give the path that is meant: `~` at its start is the home folder, as in a shell.

    Raises:
        MissingFileError: it begins in the home folder of a user who is unknown here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # "~nobody"
        user = Path(path).parts[0].removeprefix("~")
        raise MissingFileError(
            f"There is no file or folder {os.fspath(path)!r}: no user {user!r} is known here."
        ) from None


def check_folder_name(folder: Path) -> None:
    """Refuse a new folder with the name of a file: what is saved is a folder, and a file was meant.

    Raises:
        SaveError: with the folder to give instead.
    """
    if folder.suffix.lower() in FILE_ENDINGS and not folder.is_dir():
        raise SaveError(
            f"Cannot save into {str(folder)!r}: it is called like a file, and a folder of several files is saved. Give "
            f"the folder, such as {str(folder.parent if folder.parent.name else folder.with_suffix(''))!r}."
        )
