"""`RotaryConfig`: what a configuration says of rotary position embeddings, in every spelling that files have."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from maquette.configuration.config import PretrainedConfig
from maquette.errors import did_you_mean

# What each kind of scaling needs, and what it may have besides.
NEEDED: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": (),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "proportional": (),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "yarn": ("factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    "longrope": ("factor", "attention_factor"),
    "proportional": ("factor",),
}
COMMON = ("rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
# Kinds that stretch a model beyond the length it was first trained on, and so have to know that length.
STRETCHING = ("yarn", "longrope", "llama3")
_OLD_KINDS = {"su": "longrope"}


class RotaryConfig(PretrainedConfig):
    """Base of configurations of models whose positions are rotations (Su et al. 2021).

    `rope_parameters` holds `rope_theta`, `rope_type` and what that kind of scaling needs; or one such dictionary for
    each of the `layer_types`. What older files have instead, `rope_theta`, `rope_scaling` and `partial_rotary_factor`
    beside each other, is taken too, and can be read by these names. A subclass needs `max_position_embeddings`.

    Class attributes:
        default_theta: `rope_theta` where nothing says it.
    """

    default_theta: ClassVar[float] = 10_000.0
    _OLD_NAMES: ClassVar[tuple[str, ...]] = ("rope_scaling", "rope_theta", "partial_rotary_factor")

    max_position_embeddings: int
    rope_parameters: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        old = {name: kwargs.pop(name) for name in self._OLD_NAMES if name in kwargs}
        for name in old:
            self._extra.pop(name, None)
        given = self.rope_parameters or {}
        if isinstance(given, dict):  # otherwise the check of types says so
            self.rope_parameters = self._join_rotary(given, {n: value for n, value in old.items() if value is not None})
        super().__post_init__(**kwargs)

    def _join_rotary(self, given: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
        """Bring both spellings together; where both say something, `rope_parameters` counts."""
        if nested := self._nested_rotary(given):
            return {**given, **{kind: self._settle_rotary(given[kind], old) for kind in nested}}
        scaling = old.get("rope_scaling")
        settled: dict[str, Any] = self._settle_rotary({**(scaling if isinstance(scaling, dict) else {}), **given}, old)
        return settled

    def _nested_rotary(self, parameters: Mapping[str, Any]) -> list[str]:
        """Name the layer types that have parameters of their own."""
        kinds = getattr(self, "layer_types", None) or ()
        return [kind for kind in dict.fromkeys(kinds) if kind in parameters]

    def _settle_rotary(self, parameters: Any, old: Mapping[str, Any]) -> Any:
        """Complete one dictionary of parameters."""
        if not isinstance(parameters, dict):
            return parameters
        kind = parameters.get("rope_type", parameters.get("type", "default"))
        settled = {**parameters, "rope_type": _OLD_KINDS.get(kind, kind) if isinstance(kind, str) else kind}
        settled.setdefault("rope_theta", old.get("rope_theta", self.default_theta))
        if "partial_rotary_factor" in old:
            settled.setdefault("partial_rotary_factor", old["partial_rotary_factor"])
        if settled["rope_type"] in STRETCHING:
            outside = self._extra.get("original_max_position_embeddings", self.max_position_embeddings)
            settled.setdefault("original_max_position_embeddings", outside)
        return settled

    def rotary_parameters(self, layer_type: str | None = None) -> dict[str, Any]:
        """Give the parameters of a layer type, or those of all layers where they have no parameters of their own."""
        parameters = self.rope_parameters or {}
        nested = self._nested_rotary(parameters)
        if nested:
            parameters = parameters[layer_type if layer_type in nested else nested[0]]
        return {**parameters}

    @property
    def rotary_width(self) -> int:
        """How many numbers of a head's state one rotation may turn: the width of a head."""
        width = getattr(self, "head_dim", None)
        return int(width or getattr(self, "hidden_size", 0) // getattr(self, "num_attention_heads", 1))

    def validate(self) -> None:
        """Check the parameters; a subclass that has rules of its own calls this as well."""
        parameters = self.rope_parameters or {}
        nested = self._nested_rotary(parameters)
        cases = {f"rope_parameters[{kind!r}]": parameters[kind] for kind in nested} or {"rope_parameters": parameters}
        if faults := [f"{name}: {fault}" for name, case in cases.items() for fault in self._rotary_faults(case)]:
            raise ValueError(" ".join(faults))

    def _rotary_faults(self, parameters: Any) -> Iterator[str]:
        if not isinstance(parameters, dict):
            yield f"must be a dictionary, not {parameters!r}."
            return
        kind = parameters.get("rope_type")
        if kind not in NEEDED:
            yield f"there is no rope_type {kind!r}.{did_you_mean(str(kind), NEEDED)} Known are {', '.join(NEEDED)}."
            return
        known = (*COMMON, *NEEDED[kind], *OPTIONAL.get(kind, ()))
        for name in parameters.keys() - {*known}:  # names that are like none are kept: files have more than is read
            if suggestion := did_you_mean(name, known):
                yield f"{kind!r} has no {name!r}.{suggestion}"
        if missing := [name for name in NEEDED[kind] if parameters.get(name) is None]:
            yield f"{kind!r} needs {' and '.join(missing)}."
            return
        yield from self._value_faults(kind, parameters)

    def _value_faults(self, kind: str, parameters: Mapping[str, Any]) -> Iterator[str]:
        lists = [name for name in ("short_factor", "long_factor") if name in NEEDED[kind]]
        ignored = {"rope_type", "type", "truncate", *lists}
        for name, value in parameters.items():
            wrong = isinstance(value, bool) or not isinstance(value, int | float) or not value > 0
            if name not in ignored and value is not None and name in _NUMBERS and wrong:
                yield f"{name} must be a number above 0, not {value!r}."
        share = parameters.get("partial_rotary_factor") or 1.0
        width = int(self.rotary_width * share) if isinstance(share, int | float) else 0
        for name in lists:
            value = parameters[name]
            if not isinstance(value, list) or not all(isinstance(x, int | float) and x > 0 for x in value):
                yield f"{name} must be a list of numbers above 0, not {value!r}."
            elif len(value) != width // 2:
                yield f"{name} must have {width // 2} numbers, one for each pair that is turned, not {len(value)}."
        low, high = parameters.get("low_freq_factor"), parameters.get("high_freq_factor")
        if kind == "llama3" and isinstance(low, int | float) and isinstance(high, int | float) and low >= high:
            yield f"high_freq_factor={high} must be above low_freq_factor={low}."

    @property
    def rope_theta(self) -> float:
        """The base of the rotations' wavelengths, as older code asks for it."""
        return float(self.rotary_parameters("full_attention")["rope_theta"])

    @property
    def rope_scaling(self) -> dict[str, Any] | None:
        """The scaling, as older code asks for it: None where there is none."""
        parameters = self.rotary_parameters("full_attention")
        return None if parameters.get("rope_type") == "default" else parameters


_NUMBERS = {
    "rope_theta", "partial_rotary_factor", "original_max_position_embeddings", "factor", "attention_factor",
    "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "low_freq_factor", "high_freq_factor",
}  # fmt: skip
