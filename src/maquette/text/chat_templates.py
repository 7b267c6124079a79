"""Conversations as texts and ids: the template of a tokenizer or processor, where it is kept, and how it is applied.

chat_template.jinja                    the template; the only one, or the one by the name "default"
additional_chat_templates/<name>.jinja  the others
tokenizer_config.json: chat_template   where older folders have it: a text, or a list of names and templates
chat_template.json                     where older folders of processors have it
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from maquette.batch.tensors import check_framework, to_tensor
from maquette.errors import FileFormatError, InputError, UnknownNameError, did_you_mean
from maquette.hub.sources import Source
from maquette.storage.json_files import read_json
from maquette.storage.transaction import Transaction
from maquette.text.chat_rendering import Rendering, Span, literal_text, read_conversations, read_tools, render
from maquette.text.control_tokens import control_tokens, encode_marked, mark

TEMPLATE_FILE, TEMPLATE_FOLDER, OLD_FILE = "chat_template.jinja", "additional_chat_templates", "chat_template.json"
DEFAULT, WITH_TOOLS = "default", "tool_use"


class ChatTemplates:
    """What tokenizers do with conversations."""

    chat_template: str | dict[str, str] | None = None

    def get_chat_template(self, chat_template: str | None = None, tools: Any = None) -> str:
        """Give the template that is used: the one given, or of that name, or the tokenizer's own.

        Where the tokenizer has several, it is "tool_use" if there are tools, and "default" if not.

        Raises:
            InputError: there is none; UnknownNameError: none of that name.
        """
        return choose_template(self.chat_template, chat_template, tools, type(self).__name__)

    def apply_chat_template(
        self,
        conversation: Any,
        tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        tokenize: bool = True,
        sanitize_control_tokens: bool = False,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = True,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Turn a conversation, or a batch of them, into what the model was trained on.

        The template writes all special tokens itself, the first one included, so that none are added.

        Args:
            conversation: messages, `{"role": "user", "content": "…"}`; or a list of such lists.
            tools: what the model may call: JSON schemas, or Python functions with hints and a docstring.
            documents: what it may look things up in, `{"title": "…", "text": "…"}`.
            chat_template: a template, or the name of one of the tokenizer's; its default one unless given.
            add_generation_prompt: end with the beginning of an answer.
            continue_final_message: leave the last message open, so that the model goes on with it; the name of the
                field to go on with, or True for `content`.
            tokenize: give ids; the text if False.
            sanitize_control_tokens: read special tokens that stand in messages, tools and documents as letters.
            padding, truncation, max_length, return_tensors: as in the tokenizer's call.
            return_dict: give ids with their mask; the ids alone if False.
            return_assistant_tokens_mask: also give `assistant_masks`, 1 for tokens in the template's
                `{% generation %}` blocks. Fast tokenizers only.
            tokenizer_kwargs: more options of the tokenizer's call.
            kwargs: variables for the template, such as `enable_thinking`.

        Raises:
            InputError: no template, a conversation that it refuses, or one that is none; with the template's line.
        """
        masked, clean = return_assistant_tokens_mask, sanitize_control_tokens
        if masked and not (return_dict and tokenize):
            raise InputError("return_assistant_tokens_mask=True needs return_dict=True and tokenize=True.")
        if clean and (masked or not tokenize):
            raise InputError("sanitize_control_tokens=True needs tokenize=True, and no mask of the assistant's tokens.")
        conversations, batched = read_conversations(conversation)
        template = self.get_chat_template(chat_template, tools)
        if clean:
            tokens = control_tokens([*self.added_tokens_decoder.values()], literal_text(template))  # type: ignore[attr-defined]
            given = (conversations, read_tools(tools), documents, kwargs)
            conversations, tools, documents, kwargs = (mark(value, tokens) for value in given)
        renderings = render(
            conversations,
            template,
            variables=self.special_tokens_map | kwargs,  # type: ignore[attr-defined]
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            masked=masked,
        )
        if not tokenize:
            texts = [rendering.text for rendering in renderings]
            return texts if batched else texts[0]
        settings: dict[str, Any] = {"padding": padding, "truncation": truncation, "max_length": max_length}
        settings |= {"return_tensors": return_tensors, **(tokenizer_kwargs or {})}
        if clean:
            encoded = self._encode_clean([rendering.text for rendering in renderings], batched, settings)
        else:
            encoded = self._encode_chats(renderings, batched, settings, masked=masked)
        return encoded if return_dict else encoded["input_ids"]

    def _encode_chats(
        self, renderings: list[Rendering], batched: bool, settings: dict[str, Any], *, masked: bool
    ) -> Any:
        """Give the ids of conversations, where they were asked for with the masks of what the assistant wrote."""
        if masked and not self.is_fast:  # type: ignore[attr-defined]
            raise InputError("return_assistant_tokens_mask=True needs a fast tokenizer, which knows where tokens lie.")
        texts = [rendering.text for rendering in renderings]
        offsets, tensors = settings.pop("return_offsets_mapping", False), settings["return_tensors"]
        settings = {"add_special_tokens": False, **settings, "return_offsets_mapping": offsets or masked}
        encoded: Any = self(texts if batched else texts[0], **settings)  # type: ignore[operator]
        if masked:
            rows = encoded["offset_mapping"] if batched or tensors else [encoded["offset_mapping"]]
            masks = [_mask(row, one.written) for row, one in zip(rows, renderings, strict=True)]
            encoded["assistant_masks"] = _shaped(masks, batched, tensors)
            if not offsets:
                del encoded["offset_mapping"]
        return encoded

    def _encode_clean(self, texts: list[str], batched: bool, settings: dict[str, Any]) -> Any:
        """Give the ids of conversations in which special tokens that users typed are marked."""
        tokenizer: Any = self
        added, length = tokenizer.added_tokens_encoder, settings.pop("max_length")

        def encode(text: str) -> list[int]:
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
            return ids

        rows = [encode_marked(text, added, encode, tokenizer._spell) for text in texts]
        if settings.pop("truncation") not in (False, None, "do_not_truncate"):
            most = tokenizer.model_max_length if length is None else length
            rows = [ids[:most] if tokenizer.truncation_side == "right" else ids[-most:] for ids in rows]
        alone = not batched and settings["return_tensors"] is None
        return tokenizer.pad({"input_ids": rows[0] if alone else rows}, max_length=length, **settings)

    def encode_message_with_chat_template(
        self, message: Mapping[str, Any], conversation_history: Sequence[Any] | None = None, **kwargs: Any
    ) -> list[int]:
        """Give the ids that a message adds to a conversation: those from where the two differ."""
        if "add_generation_prompt" in kwargs:
            raise InputError("add_generation_prompt: one message has no prompt after it; apply the template to all.")
        before = list(conversation_history or ())
        whole: list[int] = self.apply_chat_template([*before, message], return_dict=False, **kwargs)
        known: list[int] = self.apply_chat_template(before, return_dict=False, **kwargs) if before else []
        same = next((i for i, (a, b) in enumerate(zip(known, whole, strict=False)) if a != b), None)
        return whole[min(len(known), len(whole)) if same is None else same :]


def _mask(offsets: Any, written: Sequence[Span]) -> list[int]:
    """Mark the tokens of a row that have a character in one of the places; padding has none."""
    return [int(any(start < last and end > first for first, last in written) and end > start) for start, end in offsets]


def _shaped(masks: list[list[int]], batched: bool, tensors: str | None) -> Any:
    if tensors:
        return to_tensor(np.array(masks, dtype=np.int64), check_framework(tensors))
    return masks if batched else masks[0]


def has_media(conversation: Any) -> str | None:
    """Name the first kind of content in messages that is no text: "image", "audio"."""
    for item in conversation if isinstance(conversation, list | tuple) else ():
        if isinstance(item, list | tuple):
            found = has_media(item)
        else:
            content = item.get("content") if isinstance(item, Mapping) else None
            blocks = content if isinstance(content, list | tuple) else ()
            kinds = [str(block.get("type", "text")) for block in blocks if isinstance(block, Mapping)]
            found = next((kind for kind in kinds if kind != "text"), None)
        if found:
            return found
    return None


# Templates and where they are kept --------------------------------------------------------------------------------


def choose_template(own: str | Mapping[str, str] | None, given: str | None, tools: Any, owner: str) -> str:
    """Give the template to use: `given`, or of that name, or the owner's own."""
    named = {DEFAULT: own} if isinstance(own, str) else dict(own or {})
    if given is not None:
        if given in named:
            return named[given]
        if "{" in given or not given:
            return given
        have = f" There are: {', '.join(map(repr, named))}." if named else f" {owner} has none of its own."
        raise UnknownNameError(
            f"chat_template={given!r} is neither a template, which has {{{{ }}}} in it, nor the name of one."
            f"{did_you_mean(given, named)}{have}"
        )
    if tools is not None and WITH_TOOLS in named:
        return named[WITH_TOOLS]
    if DEFAULT in named:
        return named[DEFAULT]
    if named:
        raise InputError(
            f"{owner} has several chat templates, and none by the name {DEFAULT!r}. Pass chat_template= one of "
            f"{', '.join(map(repr, named))}."
        )
    raise InputError(
        f"{owner} has no chat template: its checkpoint brought none. Set one, tokenizer.chat_template = '…', or pass "
        "chat_template='…': the one that the model was trained with. For a model that knows no conversations, give "
        "the tokenizer a plain text."
    )


def read_template(value: Any, place: str) -> str | dict[str, str] | None:
    """Read a template of a file or a caller: a text, a mapping of names to texts, or a list of names and templates.

    Raises:
        FileFormatError: it is none of these.
    """
    if isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value):
        value = {item.get("name"): item.get("template") for item in value}
    if isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair):
        return dict(value)
    if value is None or isinstance(value, str):
        return value
    raise FileFormatError(
        f"{place}: chat_template must be a text, a mapping of names to texts, or a list of "
        f'{{"name": "…", "template": "…"}}, not {value!r:.80}.'
    )


def find_templates(source: Source) -> str | dict[str, str] | None:
    """Read the templates of a folder that are files of their own."""
    files = {name: name.split("/")[1].removesuffix(".jinja") for name in source.names() if _is_additional(name)}
    found = {DEFAULT: path.read_text(encoding="utf-8")} if (path := source.find(TEMPLATE_FILE)) else {}
    for name, title in sorted(files.items()):
        found[title] = source.refer(name).read_text(encoding="utf-8")
    if not found and (old := source.find(OLD_FILE)):
        place = f"{source.label}/{OLD_FILE}"
        return read_template(read_json(old, label=place).get("chat_template"), place)
    return found[DEFAULT] if list(found) == [DEFAULT] else found or None


def _is_additional(name: str) -> bool:
    return name.startswith(f"{TEMPLATE_FOLDER}/") and name.endswith(".jinja") and name.count("/") == 1


def write_templates(transaction: Transaction, template: str | Mapping[str, str] | None) -> None:
    """Stage the templates as files; those of an earlier save go.

    Raises:
        UnsafePathError: a name that is no file's.
    """
    named = {DEFAULT: template} if isinstance(template, str) else dict(template or {})
    for name, text in named.items():
        transaction.write(TEMPLATE_FILE if name == DEFAULT else f"{TEMPLATE_FOLDER}/{name}.jinja", text)
    if DEFAULT not in named:
        transaction.remove(TEMPLATE_FILE)
    for path in (transaction.folder / TEMPLATE_FOLDER).glob("*.jinja"):
        transaction.remove(f"{TEMPLATE_FOLDER}/{path.name}")
    transaction.remove(OLD_FILE)
