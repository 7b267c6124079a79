"""Where chat templates run: jinja2's sandbox, on plain data alone, with bounds on time and on how large things get.

A template comes with a checkpoint, so it is a stranger's program. It sees no object with methods of its own, opens no
file, and whatever it prints, joins or multiplies is counted before it is made.
"""

import dataclasses
import functools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import numpy as np
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

SECONDS = 10.0
LARGEST = 2**25  # what one value weighs, and what is printed: a character 1, an item of a list 8, as in bytes
LARGE = 2**20  # from here on, what is made is added up
MOST = 2**27  # of all that is large
LARGEST_NUMBER = 2**16  # bits
# Filters and methods of texts whose result can be as large as the product of what they are given.
ITEM = 8
MULTIPLYING = {"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "join", "wordwrap"}
MULTIPLYING |= {"tojson", "batch", "slice", "translate"}
CUTTING_LETTERS = {"list", "sort", "unique", "reverse", "wordcount", "batch", "slice"}
CUTTING = {"split", "rsplit", "splitlines", *CUTTING_LETTERS}  # one text becomes many
WIDE = re.compile(r"%[-+ #0-9.*_^]*\d{7}|\{[^{}]*:[^{}]*\d{7}")  # a field of a format string with a huge width
NESTED_WIDTH = re.compile(r"%[-+ #0-9.]*\*|\{[^{}]*\{")
NOT_OFFERED = ("urlize", "xmlattr")


class BoundError(Exception):
    """A template that goes on for too long, or makes something too large."""


class Bounds:
    """What one rendering has used of its time and room.

    Attributes:
        marks: what `{% generation %}` blocks are put between, where their places are asked for.
    """

    def __init__(self, marks: tuple[str, str] | None = None) -> None:
        self.end = time.monotonic() + SECONDS
        self.printed = 0
        self.made = 0
        self.marks = marks

    def step(self) -> None:
        if time.monotonic() > self.end:
            raise BoundError(f"runs for more than {SECONDS:g} seconds")

    def keep(self, value: Any) -> Any:
        """Give a value back if it is not too large."""
        self.step()
        if not isinstance(value, bool | float | None):
            check_size(size := measure(value, {}))
            if size > LARGE:
                self.made += size
                check_size(self.made, MOST)
        return value

    def show(self, value: Any) -> str:
        """Turn a value into the text that is printed."""
        text = value if isinstance(value, str) else str(self.keep(value))
        self.printed += len(text)
        check_size(self.printed)
        self.step()
        return text


_bounds: ContextVar[Bounds] = ContextVar("bounds")


@contextmanager
def bounded(marks: tuple[str, str] | None = None) -> Iterator[Bounds]:
    """Give the templates that are compiled and rendered in the block their bounds."""
    token = _bounds.set(bounds := Bounds(marks))
    try:
        yield bounds
    finally:
        _bounds.reset(token)


def check_size(size: int, most: int = LARGEST) -> None:
    """Refuse what is too large, before it is made."""
    if size > most:
        raise BoundError(f"makes more than {most:,} characters, or a list that large")


def measure(value: Any, seen: dict[int, int]) -> int:
    """Weigh what a value has in it when it is written out: a list that is in it many times counts as often."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        if value.bit_length() > LARGEST_NUMBER:
            raise BoundError("makes a number of more than 19,000 digits")
        return 1
    if isinstance(value, Namespace):
        value = object.__getattribute__(value, "_Namespace__attrs")
    if not isinstance(value, list | tuple | dict | set | frozenset):
        return 1
    if id(value) not in seen:
        seen[id(value)] = 1
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        seen[id(value)] = ITEM * len(items) + sum(measure(item, seen) for item in items)
    return seen[id(value)]


def foresee(name: str, subject: Any, given: list[Any]) -> None:
    """Refuse a filter or a method whose result would be too large."""
    if name == "replace" and len(given) >= 2 and isinstance(subject, str) and isinstance(given[0], str):
        check_size(subject.count(given[0]) * len(str(given[1])))
    elif name in CUTTING and isinstance(subject, str):
        at = given[0] if name not in CUTTING_LETTERS and given and isinstance(given[0], str) else ""
        check_size(ITEM * subject.count(at))
    elif name in ("format", "format_map", "strftime_now"):
        check_format(str(subject), given)
    elif name in MULTIPLYING:
        size = measure(subject, {})
        for value in given:
            check_size(max(size, 1) * (abs(value) if isinstance(value, int) else measure(value, {})))


def check_format(text: str, values: Any) -> None:
    """Refuse a format string with a field of a million places or more."""
    wide = NESTED_WIDTH.search(text) and any(abs(n) > 10**6 for n in _numbers(values))
    if wide or WIDE.search(text):
        raise BoundError("formats a field of more than 1,000,000 characters")


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, Mapping):
        yield from _numbers(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)


# What templates are offered ---------------------------------------------------------------------------------------


class RefusalError(TemplateError):
    """A template that does not take a conversation."""


def raise_exception(message: Any) -> None:
    """Let a template refuse a conversation."""
    raise RefusalError(str(message))


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Write a value as JSON, without jinja2's escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(format: str) -> str:
    """Give the date or time of now."""
    check_format(format, ())
    return datetime.now().strftime(format)


class Dictionary:
    """Makes dictionaries, without the attributes of the type."""

    def __call__(self, *items: Any, **named: Any) -> dict[Any, Any]:
        return dict(*items, **named)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        """Make a dictionary with one value for all keys."""
        return dict.fromkeys(keys, value)


class PlainNamespace(Namespace):
    """A namespace whose attributes never begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *items = args
        attributes = dict(*items, **kwargs)
        for name in attributes:
            _check_attribute(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_attribute(name)
        super().__setitem__(name, value)


def _check_attribute(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace takes no name that begins with an underscore: {name!r}")


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: what the assistant wrote, for masks of its tokens."""

    tags = {"generation"}  # noqa: RUF012 - as the base has it

    def parse(self, parser: Parser) -> nodes.Node:
        """Read a block, which is called with its text."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        marks = _bounds.get().marks
        return caller() if marks is None else f"{marks[0]}{caller()}{marks[1]}"


# The environment --------------------------------------------------------------------------------------------------


class CountingEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, in which every loop, call, operator and print is counted."""

    intercepted_binops = frozenset(("+", "*", "%", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[Generation, loopcontrols],
            finalize=pass_context(lambda context, value: _bounds.get().show(value)),
        )
        self.filters["tojson"] = to_json
        for name in NOT_OFFERED:
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters = {name: _counted(name, function) for name, function in self.filters.items()}
        self.globals |= {
            "raise_exception": raise_exception,
            "strftime_now": strftime_now,
            "dict": Dictionary(),
            "namespace": PlainNamespace,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = Counting().visit(super()._parse(source, name, filename))
        return tree

    def step(self) -> None:
        """Count one turn of a loop or a macro."""
        _bounds.get().step()

    def keep(self, value: Any) -> Any:
        """Count a list, tuple or dictionary that was written out."""
        return _bounds.get().keep(value)

    def concatenate(self, *parts: Any) -> str:
        """Join what `~` stands between."""
        bounds = _bounds.get()
        texts = [part if isinstance(part, str) else str(bounds.keep(part)) for part in parts]
        check_size(sum(map(len, texts)))
        return "".join(texts)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        method = getattr(__obj, "__wrapped__", __obj)
        if isinstance(subject := getattr(method, "__self__", None), str):
            foresee(method.__name__, subject, [*args, *kwargs.values()])
        return _bounds.get().keep(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int) and isinstance(right, int)
        if operator == "%" and isinstance(left, str):
            check_format(left, right)
        elif operator == "*" and not numbers:
            times = [n for n in (left, right) if isinstance(n, int)]
            check_size(max(times, default=1) * max(measure(left, {}), measure(right, {})))
        elif operator == "**" and numbers and left.bit_length() * right > LARGEST_NUMBER:
            raise BoundError("makes a number of more than 19,000 digits")
        return _bounds.get().keep(super().call_binop(context, operator, left, right))


def literals(template: nodes.Template) -> str:
    """Give every text that stands in a template; they cannot run together."""
    return "\0".join(node.value for node in template.find_all(nodes.Const) if isinstance(node.value, str))


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that what it takes and gives is measured."""
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        subject, *given = args[skipped:]
        foresee(name, subject, [*given, *kwargs.values()])
        return _bounds.get().keep(function(*args, **kwargs))

    return run


class Counting(NodeTransformer):
    """Puts the counting into a template that was read."""

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802 - jinja2's name
        return nodes.Const(node.data).set_lineno(node.lineno)  # so that it is printed as values are

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("concatenate", node.nodes, node)

    def visit_List(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load" or not any(node.find_all((nodes.Name, nodes.Call, nodes.Filter))):
            return node  # type: ignore[no-any-return]
        return _call("keep", [node], node)

    visit_Tuple = visit_Dict = visit_List  # noqa: N815

    def visit_For(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("step", [], node)).set_lineno(node.lineno))
        return node  # type: ignore[no-any-return]

    visit_Macro = visit_CallBlock = visit_For  # noqa: N815


def _call(method: str, arguments: list[Any], node: nodes.Node) -> nodes.Call:
    """Make the call of a method of the environment."""
    call = nodes.Call(nodes.EnvironmentAttribute(method), arguments, [], None, None)
    call.set_lineno(node.lineno)
    return call


# Data -------------------------------------------------------------------------------------------------------------


def plain_data(value: Any) -> Any:
    """Rebuild a value out of JSON's types: what else there is, images and arrays, becomes `<its type's name>`.

    Dataclasses and pydantic models become dictionaries.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):  # an enumeration's member or a numpy scalar
            return getattr(kind, "__str__" if kind is str else f"__{kind.__name__}__")(value)
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [plain_data(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, np.generic):
        return plain_data(value.item())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)):
        return plain_data(dump())
    return f"<{type(value).__name__}>"
