"""What lies in the folder of a save already: maps of other frameworks, and files that are not to be replaced."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from maquette.errors import SaveError


def keep_other_frameworks(folder: Path, config: Any, written: Collection[str]) -> dict[str, Any]:
    """Give what a folder's own map says of models whose code stays there, of other frameworks say."""
    try:
        before = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kept = dict(before["auto_map"]) if before["model_type"] == config.model_type else {}
    except (OSError, ValueError, KeyError, TypeError):  # no folder of such a model yet
        return {}

    def stays(reference: Any) -> bool:
        file = f"{reference.rpartition('.')[0].replace('.', '/')}.py" if isinstance(reference, str) else ""
        return file not in written and (folder / file).is_file()

    return {auto: ref for auto, ref in kept.items() if stays(ref)}


def spare_other_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Refuse to overwrite somebody's source, as `save_pretrained(".")` could; code of a save has a map beside it."""
    is_save = any(b'"auto_map"' in path.read_bytes() for path in folder.glob("*config.json") if path.is_file())
    for name, content in files.items():
        path = folder / name
        if not is_save and path.is_file() and path.read_bytes() != content:
            raise SaveError(
                f"Saving the code would overwrite {str(path)!r}, which is from no save. Save into a folder of its own."
            )
