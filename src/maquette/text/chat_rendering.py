"""A conversation as the text that a template makes of it."""

import functools
import inspect
import re
import secrets
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from maquette.errors import InputError, MissingPackageError
from maquette.text.function_schemas import get_json_schema

REASONING = ("reasoning_content", "thinking", "reasoning")  # what messages call the same thing
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
Span = tuple[int, int]


@dataclass(frozen=True)
class Rendering:
    """The text of one conversation, and the places in it that the assistant wrote, where they were asked for."""

    text: str
    written: tuple[Span, ...] = ()


def read_conversations(given: Any) -> tuple[list[list[dict[str, Any]]], bool]:
    """Tell one conversation from a batch, and rebuild the messages out of plain data; keys of None are left out.

    Raises:
        InputError: what was given is no list of messages; which item is none.
    """
    given = getattr(given, "messages", given)
    if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__len__"):
        raise InputError(
            f'A conversation is a list of messages, [{{"role": "user", "content": "…"}}], not {given!r:.80}.'
        )
    items = [getattr(item, "messages", item) for item in given]
    if not items:
        raise InputError("The conversation is empty: give at least one message.")
    batched = isinstance(items[0], list | tuple)
    sandbox = _sandbox()
    conversations = []
    for row, messages in enumerate(items if batched else [items]):
        place = f"Conversation {row}: " if batched else ""
        if not isinstance(messages, list | tuple):
            raise InputError(f"{place}a list of messages belongs here, not {messages!r:.80}.")
        try:
            plain = sandbox.plain_data(list(messages))
        except RecursionError:
            raise InputError(f"{place}a message holds itself, or is nested too deep.") from None
        for index, message in enumerate(plain):
            if not isinstance(message, dict):
                raise InputError(
                    f"{place}message {index} is {messages[index]!r:.80}; a message is a mapping with a role and its "
                    "content."
                )
        conversations.append([_clean(message) for message in plain])
    return conversations, batched


def _clean(message: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None, and give reasoning under every name that templates have for it."""
    kept = {name: value for name, value in message.items() if value is not None}
    reasoning = next((kept[name] for name in REASONING if name in kept), None)
    return kept if reasoning is None else {"thinking": reasoning, **kept, "reasoning_content": reasoning}


def render(
    conversations: list[list[dict[str, Any]]],
    template: str,
    *,
    variables: Mapping[str, Any],
    tools: Any = None,
    documents: Any = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
    masked: bool = False,
) -> list[Rendering]:
    """Give the texts of conversations, as `apply_chat_template` describes it."""
    if continue_final_message and (add_generation_prompt or masked):
        other = "add_generation_prompt" if add_generation_prompt else "return_assistant_tokens_mask"
        raise InputError(f"continue_final_message and {other} exclude each other: one message is open, or none is.")
    if masked and not GENERATION.search(template):
        raise InputError(
            "return_assistant_tokens_mask=True: the chat template does not say what the assistant wrote. Put "
            "{% generation %} … {% endgeneration %} around it in the template."
        )
    plain = _sandbox().plain_data
    shared = plain(dict(variables)) | {
        "tools": plain(read_tools(tools)),
        "documents": plain(_read_documents(documents)),
    }
    shared["add_generation_prompt"] = add_generation_prompt
    field = "content" if continue_final_message is True else continue_final_message
    renderings = []
    for messages in conversations:
        if field:
            renderings.append(_render_open(messages, template, shared, field))
        else:
            marks = (f"<{secrets.token_hex(8)}>", f"<{secrets.token_hex(8)}>") if masked else None
            text = _run(template, {**shared, "messages": messages}, marks)
            renderings.append(_take_marks(text, marks) if marks else Rendering(text))
    return renderings


def read_tools(tools: Any) -> list[Any] | None:
    """Give the JSON schemas of tools, functions among them.

    Raises:
        InputError: an item is neither, or a function cannot be described.
    """
    if tools is None:
        return None
    if isinstance(tools, str | Mapping) or callable(tools):
        raise InputError("tools must be a list of JSON schemas or functions, not one of them.")
    found = []
    for index, tool in enumerate(tools):
        if isinstance(tool, Mapping):
            found.append(tool)
        elif inspect.isroutine(tool):
            found.append(get_json_schema(tool))
        else:
            raise InputError(f"tools[{index}] is {tool!r:.80}: give a JSON schema, or a function with a docstring.")
    return found


def _read_documents(documents: Any) -> Any:
    for index, document in enumerate(documents or ()):
        if not isinstance(document, Mapping):
            raise InputError(f'documents[{index}] is {document!r:.80}: give {{"title": "…", "text": "…"}}.')
    return documents


def _take_marks(text: str, marks: tuple[str, str]) -> Rendering:
    """Take the marks out of a text, and give the places between them."""
    parts, spans, size, start = re.split(f"({marks[0]}|{marks[1]})", text), [], 0, 0
    for part in parts:
        if part == marks[0]:
            start = size
        elif part == marks[1]:
            spans.append((start, size))
        else:
            size += len(part)
    return Rendering("".join(part for part in parts if part not in marks), tuple(spans))


def _render_open(messages: list[dict[str, Any]], template: str, shared: dict[str, Any], field: str) -> Rendering:
    """Render up to the end of the last message's text: a mark behind it says where that is."""
    mark = f"END{secrets.token_hex(12)} "
    *before, last = messages
    text = last.get(field)
    if text is None:
        raise InputError(f"continue_final_message: the last message has no {field!r} to go on with.")
    fields = [name for name in REASONING if last.get(name) == text] if field in REASONING else [field]
    if not any(name in template for name in fields):
        raise InputError(f"continue_final_message={field!r}: the chat template never reads {field!r} of a message.")
    text, marked = _mark_end(text, mark)
    last = {**last, **dict.fromkeys(fields, marked)}
    whole = _run(template, {**shared, "messages": [*before, last]})
    place = whole.rfind(mark.strip())
    if place < 0 or text.strip() not in whole:
        raise InputError(
            "continue_final_message: the chat template leaves out the last message's text, or changes it, so that "
            f"there is nothing to go on with. The text is {text.strip()!r:.200}."
        )
    kept = whole[:place]
    return Rendering(kept if whole.startswith(mark, place) else kept.rstrip())


def _mark_end(content: Any, mark: str) -> tuple[str, Any]:
    """Put the mark behind a message's text, or behind the last of its texts; gives that text too."""
    if isinstance(content, str):
        return content, content + mark
    blocks = list(content) if isinstance(content, list | tuple) else []
    for index in reversed(range(len(blocks))):
        if isinstance(blocks[index], dict) and isinstance(text := blocks[index].get("text"), str):
            blocks[index] = {**blocks[index], "text": text + mark}
            return text, blocks
    raise InputError("continue_final_message: the last message has no text to go on with.")


def literal_text(template: str) -> str:
    """Give every text that stands in a template.

    Raises:
        InputError: it is not valid Jinja.
    """
    return _within(template, lambda: _sandbox().literals(_environment().parse(template)))


def _run(template: str, variables: Mapping[str, Any], marks: tuple[str, str] | None = None) -> str:
    return _within(template, lambda: _compiled(template).render(variables), marks)


def _within(template: str, work: Callable[[], Any], marks: tuple[str, str] | None = None) -> str:
    """Work on a template within the sandbox's bounds; what goes wrong in it is one error with the template's line."""
    sandbox = _sandbox()
    from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError, UndefinedError

    try:
        with sandbox.bounded(marks):
            return str(work())
    except TemplateSyntaxError as error:
        source = template.split("\n")[error.lineno - 1].strip()
        problem = f"is not valid Jinja, line {error.lineno}: {error.message}. There: {source!r:.120}"
    except sandbox.BoundError as error:
        problem = f"{error}{_line(error)}, and was stopped"
    except UndefinedError as error:
        problem = f"asks for what is not there{_line(error)}: {error}. Is a role or a key of a message missing?"
    except SecurityError as error:
        problem = f"does what a template may not{_line(error)}: {error}"
    except sandbox.RefusalError as error:
        problem = f"refuses this conversation: {error}"
    except RecursionError:
        problem = "calls itself without an end, or nests values too deep"
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        no_files = "no loader" in str(error)
        why = "it reads another file, which a template may not" if no_files else f"{type(error).__name__}: {error}"
        problem = f"fails{_line(error)}: {why}"
    raise InputError(f"The chat template {problem}".rstrip(".") + ("" if problem.endswith("?") else "."))


def _line(error: BaseException) -> str:
    """Name the line of the template where an error happened."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return f" in line {lines[-1]}" if lines else ""


@functools.lru_cache(maxsize=64)
def _compiled(template: str) -> Any:
    return _environment().from_string(template)


@functools.cache
def _environment() -> Any:
    return _sandbox().CountingEnvironment()


@functools.cache
def _sandbox() -> Any:
    """Import the sandbox, which needs jinja2.

    Raises:
        MissingPackageError: it is not installed, or older than the release that closed the sandbox's last holes.
    """
    advice = "Chat templates need jinja2 3.1.6 or newer: pip install 'maquette[chat]'."
    try:
        from importlib.metadata import version

        if tuple(map(int, re.findall(r"\d+", version("jinja2"))[:3])) < (3, 1, 6):
            raise MissingPackageError(f"{advice} Installed is {version('jinja2')}.")
        from maquette.text import template_sandbox
    except ImportError as error:
        raise error if isinstance(error, MissingPackageError) else MissingPackageError(advice) from None
    return template_sandbox
