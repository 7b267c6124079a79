"""One HTML page that asks for nothing from elsewhere: a template, its style, its script, and the data it draws from.

A package of resources has `page.html`, `page.css` and `page.js`. Slots of the template are `{{name}}`.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources

from maquette.storage.version import __version__

SLOT = re.compile(r"\{\{(\w+)\}\}")


def fill_page(package: str, parts: Mapping[str, str], data: object) -> str:
    """Fill a package's template.

    Args:
        package: where the three files are, as `"maquette.training.report"`.
        parts: what goes into the slots, as HTML; `style`, `script`, `script_hash`, `data` and `version` are added.
        data: what the script draws from, as JSON has it.
    """
    script = _read(package, "page.js")
    known = {
        **parts,
        "version": __version__,
        "style": _read(package, "page.css"),
        "data": _embed(data),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return SLOT.sub(lambda slot: known[slot[1]], _read(package, "page.html"))


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _embed(value: object) -> str:
    """Write JSON that can stand inside a script element, whatever is in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
