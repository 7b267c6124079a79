"""What messages hold beside text: images, from wherever they are, and sounds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from maquette.errors import InputError

PLACES = {"image": ("image", "url", "path", "base64"), "audio": ("audio",)}  # what blocks call their data


class Media(NamedTuple):
    """Images and sounds of one conversation, in the order of its messages."""

    images: list[Any]
    sounds: list[Any]


def name_images(conversation: Any) -> Any:
    """Give a conversation, or several, with blocks of OpenAI's kind, `image_url`, as those that templates know."""
    if isinstance(conversation, list | tuple):
        return [name_images(item) for item in conversation]
    content = conversation.get("content") if isinstance(conversation, Mapping) else None
    if not isinstance(content, list | tuple):
        return conversation
    return {**conversation, "content": [_name_image(block) for block in content]}


def _name_image(block: Any) -> Any:
    if not isinstance(block, Mapping) or block.get("type") != "image_url" or "image_url" not in block:
        return block
    found = block["image_url"]
    return {"type": "image", "url": found.get("url") if isinstance(found, Mapping) else found}


def collect_media(messages: Any) -> Media:
    """List what the messages of a conversation hold: images as they are given, base64 as an address.

    Raises:
        InputError: a block has no data, or data of a kind that no part takes.
    """
    found = Media([], [])
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        for block in content if isinstance(content, list | tuple) else ():
            kind = block.get("type", "text") if isinstance(block, Mapping) else "text"
            if kind == "text":
                continue
            if kind not in PLACES:
                raise InputError(
                    f"A message holds {kind!r} data, and only images and sounds are taken from messages. Take the "
                    "text, tokenize=False, and call the processor with it and the data."
                )
            values = [(name, block[name]) for name in PLACES[kind] if block.get(name) is not None]
            if not values:
                raise InputError(
                    f"A block of type {kind!r} has no data: give it under {' or '.join(PLACES[kind])}, or take the "
                    "text with tokenize=False and call the processor with it."
                )
            (found.images if kind == "image" else found.sounds).append(_read(kind, *values[0]))
    return found


def _read(kind: str, place: str, value: Any) -> Any:
    if place == "base64" and not str(value).startswith("data:"):
        return f"data:image/*;base64,{value}"
    if kind == "audio" and isinstance(value, str | bytes):
        raise InputError(
            "A sound in a message is an array of samples: read the file first, at the rate that is needed."
        )
    return value
