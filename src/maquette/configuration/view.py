"""A configuration as a notebook shows it: its fields, and which of them differ from their defaults."""

import html
import json
from collections.abc import Mapping
from typing import Any

from maquette.configuration.schema import MISSING
from maquette.configuration.values import shown
from maquette.storage.html_view import Markup, folded, frame, never_raising, table
from maquette.storage.json_values import encode_floats

NO_FIELDS = {"maquette_version", "transformers_version", "model_type"}
NOTHING: Any = object()


@never_raising
def show_configuration(config: Any) -> str:
    """Give the HTML of a configuration."""
    values = encode_floats(config._differing(config._plain(shown)))
    about = f"model_type {config.model_type!r}" if config.model_type else ""
    return frame(type(config).__name__, about, _fields(values, _defaults(config)))


def _defaults(config: Any) -> dict[str, Any]:
    """Give what fields are where nobody sets them; of one that has to be given, nothing."""
    declared = {
        name: field.fresh_default()
        for name, field in config._schema().items()
        if field.has_default and field.default is not MISSING
    }
    found: dict[str, Any] = encode_floats({**declared, **config._bare_values()})
    return found


def _fields(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    names = [name for name in values if name not in NO_FIELDS]
    usual = {name: defaults.get(name, NOTHING) for name in names}
    changed = [name for name in names if usual[name] is NOTHING or not _same(values[name], usual[name])]
    names = [*changed, *(name for name in names if name not in changed)]
    rows = [
        [
            name,
            _value(values[name], usual[name]),
            "" if name not in changed else "–" if usual[name] is NOTHING else _short(usual[name]),
        ]
        for name in names
    ]
    marked = [place for place, name in enumerate(names) if name in changed]
    count = f"{len(changed)} of {len(names)} fields differ from their defaults" if changed else "all as by default"
    return f"<div class='quiet'>{count}</div>" + table(["field", "value", "default"], rows, marked=marked)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True, default=repr) == json.dumps(other, sort_keys=True, default=repr)


def _value(value: Any, usual: Any) -> Any:
    if isinstance(value, Mapping) and "model_type" in value:
        defaults = usual if isinstance(usual, Mapping) else {}
        return folded(value["model_type"] or "configuration", _fields(value, defaults))
    if isinstance(value, Mapping | list) and len(value) > 8:
        return folded(f"{len(value)} values", f"<div>{_escaped(value)}</div>")
    return _short(value)


def _escaped(value: Any) -> Markup:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return Markup(html.escape(text if len(text) < 5_000 else text[:5_000] + " …"))


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "model_type" in value:
        return str(value["model_type"])
    return json.dumps(value, ensure_ascii=False, default=repr)
