"""Texts as they come, in whole characters: printed, or for a loop of one's own."""

import asyncio
import queue
from typing import Any, Self

from maquette.errors import InputError
from maquette.text.incremental_decoding import IncrementalDecoder
from maquette.text.vocabulary import Vocabulary

DECODING = {"skip_special_tokens", "clean_up_tokenization_spaces"}  # what an IncrementalDecoder knows of `decode`


class BaseStreamer:
    """What `generate(streamer=…)` talks to: `put` gets the prompt's ids, then new ones, and `end` comes last."""

    def put(self, value: Any) -> None:
        """Take ids, `(length,)` or `(1, length)`."""
        raise NotImplementedError(f"{type(self).__name__} has no put(value).")

    def end(self) -> None:
        """Take note that no more come."""
        raise NotImplementedError(f"{type(self).__name__} has no end().")


class TextStreamer(BaseStreamer):
    """Prints a text while it is generated, as soon as characters are whole.

    Args:
        tokenizer: makes text of ids.
        skip_prompt: leave out the prompt.
        decode_kwargs: for `tokenizer.decode`, such as `skip_special_tokens=True`.

    Override `on_finalized_text(text, stream_end=False)` for something else than printing.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode_kwargs: Any) -> None:
        self.tokenizer, self.skip_prompt, self.decode_kwargs = tokenizer, skip_prompt, decode_kwargs
        self._decoder: Any = None
        self.next_tokens_are_prompt = True

    def put(self, value: Any) -> None:
        """Take ids, and hand on what text they complete.

        Raises:
            InputError: ids of several rows.
        """
        if getattr(value, "ndim", 1) > 1:
            if len(value) > 1:
                raise InputError(f"{type(self).__name__} is for one row, and got {len(value)}: stream them one by one.")
            value = value[0]
        is_prompt, self.next_tokens_are_prompt = self.next_tokens_are_prompt, False
        if is_prompt and self.skip_prompt:
            return
        if self._decoder is None:
            self._decoder = decoder_for(self.tokenizer, self.decode_kwargs)
        if text := self._decoder.feed(value.tolist() if hasattr(value, "tolist") else value):
            self.on_finalized_text(text)

    def end(self) -> None:
        """Hand on the rest; what comes next is another prompt."""
        text = "" if self._decoder is None else self._decoder.finish()
        self._decoder, self.next_tokens_are_prompt = None, True
        self.on_finalized_text(text, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Print text that stays as it is; a new line at the end."""
        print(text, flush=True, end="\n" if stream_end else "")


class TextIteratorStreamer(TextStreamer):
    """Gives a text in parts, to a loop in another thread than the one that generates.

    Args:
        tokenizer, skip_prompt, decode_kwargs: as for `TextStreamer`.
        timeout: seconds to wait for the next part; `queue.Empty` is raised then. Without one, waits for ever.
    """

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.timeout = timeout
        self.text_queue: queue.Queue[str | None] = queue.Queue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Keep a part for the loop."""
        if text:
            self.text_queue.put(text)
        if stream_end:
            self.text_queue.put(None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        text = self.text_queue.get(timeout=self.timeout)
        if text is None:
            raise StopIteration
        return text


class AsyncTextIteratorStreamer(TextStreamer):
    """Gives a text in parts to an `async for`, while a thread generates; made inside the running event loop.

    Args:
        tokenizer, skip_prompt, decode_kwargs: as for `TextStreamer`.
        timeout: seconds to wait for the next part; `TimeoutError` is raised then.
    """

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.timeout, self.loop = timeout, asyncio.get_running_loop()
        self.text_queue: asyncio.Queue[str | None] = asyncio.Queue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Keep a part for the loop."""
        for part in [*([text] if text else []), *([None] if stream_end else [])]:
            self.loop.call_soon_threadsafe(self.text_queue.put_nowait, part)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async with asyncio.timeout(self.timeout):
            text = await self.text_queue.get()
        if text is None:
            raise StopAsyncIteration
        return text


class RowTexts:
    """Makes text of the tokens of many rows, each as it comes.

    Args:
        tokenizer: makes text of ids.
        decode_kwargs: for `tokenizer.decode`.
    """

    def __init__(self, tokenizer: Any, **decode_kwargs: Any) -> None:
        self.tokenizer, self.decode_kwargs = tokenizer, decode_kwargs
        self._decoders: dict[int, Any] = {}

    def feed(self, row: int, tokens: list[int], *, is_done: bool = False) -> str:
        """Give the text that tokens add to a row, and with the last of them all that was held back."""
        if row not in self._decoders:
            self._decoders[row] = decoder_for(self.tokenizer, self.decode_kwargs)
        text: str = self._decoders[row].feed(tokens)
        return text + self._decoders.pop(row).finish() if is_done else text


def decoder_for(tokenizer: Any, options: dict[str, Any]) -> Any:
    """Give what makes text of a row's ids, one after the other; for tokenizers of others, by decoding all of them."""
    if isinstance(tokenizer, Vocabulary) and options.keys() <= DECODING:
        return IncrementalDecoder(tokenizer, **options)
    return _WholeDecoder(tokenizer, options)


class _WholeDecoder:
    """Decodes the whole row for every token, and gives what is new."""

    def __init__(self, tokenizer: Any, options: dict[str, Any]) -> None:
        self.tokenizer, self.options = tokenizer, options
        self.ids: list[int] = []
        self.given = 0

    def feed(self, ids: Any) -> str:
        self.ids += [ids] if isinstance(ids, int) else ids
        return self._rest(self.tokenizer.decode(self.ids, **self.options).rstrip("\ufffd"))

    def finish(self) -> str:
        return self._rest(self.tokenizer.decode(self.ids, **self.options)) if self.ids else ""

    def _rest(self, text: str) -> str:
        new, self.given = text[self.given :], max(len(text), self.given)
        return new
