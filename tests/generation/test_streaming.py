"""Streams: whole characters, all of the text and nothing twice, for prints, threads and event loops."""

import asyncio
import queue
import threading

import pytest
import torch
from stop_cases import TEXTS, make_tokenizer

from maquette import (
    AsyncTextIteratorStreamer,
    BaseStreamer,
    InputError,
    PreTrainedTokenizerFast,
    TextIteratorStreamer,
    TextStreamer,
)
from maquette.generation.streaming import RowTexts

PROMPT = "naïve 🙂"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=make_tokenizer())


class Parts(TextStreamer):
    """Keeps what it is handed, as code written for the peer does."""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.__dict__.setdefault("parts", []).append((text, stream_end))


class Foreign:
    """A tokenizer of someone else's, which has a `decode` and no more."""

    def __init__(self, inner: PreTrainedTokenizerFast) -> None:
        self.inner = inner

    def decode(self, ids: list[int], **options: bool) -> str:
        return str(self.inner.decode(ids, **options))


def play(streamer: BaseStreamer, ids: list[int], prompt: list[int]) -> None:
    """Say to a streamer what `generate` does: the prompt as a batch, then one token at a time."""
    streamer.put(torch.tensor([prompt]))
    for token in ids:
        streamer.put(torch.tensor([token]))
    streamer.end()


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_parts_are_whole_characters_and_together_the_text(
    tokenizer: PreTrainedTokenizerFast, text: str, skips: bool, foreign: bool
) -> None:
    prompt, ids = tokenizer(PROMPT)["input_ids"], tokenizer(text)["input_ids"]
    streamer = Parts(Foreign(tokenizer) if foreign else tokenizer, skip_prompt=skips, skip_special_tokens=True)
    for _ in range(2):  # a streamer serves several calls
        streamer.parts = []
        play(streamer, ids, prompt)
        parts = [part for part, _ in streamer.parts]
        whole = tokenizer.decode([*([] if skips else prompt), *ids], skip_special_tokens=True)
        assert "".join(parts) == whole and "\ufffd" not in "".join(parts)
        assert [end for _, end in streamer.parts] == [False] * (len(parts) - 1) + [True]
        assert len(parts) > len(text) / 4  # as they come


def test_a_streamer_prints(tokenizer: PreTrainedTokenizerFast, capsys: pytest.CaptureFixture[str]) -> None:
    play(TextStreamer(tokenizer), tokenizer(TEXTS[1])["input_ids"], tokenizer(PROMPT)["input_ids"])
    assert capsys.readouterr().out == PROMPT + TEXTS[1] + "\n"


def test_a_loop_in_another_thread_gets_the_parts(tokenizer: PreTrainedTokenizerFast) -> None:
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=30)
    arguments = (streamer, tokenizer(TEXTS[1])["input_ids"], tokenizer(PROMPT)["input_ids"])
    thread = threading.Thread(target=play, args=arguments)
    thread.start()
    parts = list(streamer)
    thread.join()
    assert "".join(parts) == TEXTS[1] and all(parts)


def test_waiting_has_an_end(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(queue.Empty):
        next(TextIteratorStreamer(tokenizer, timeout=0.01))


def test_an_event_loop_gets_the_parts(tokenizer: PreTrainedTokenizerFast) -> None:
    async def collect() -> list[str]:
        streamer = AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, timeout=30)
        arguments = (streamer, tokenizer(TEXTS[1])["input_ids"], tokenizer(PROMPT)["input_ids"])
        done = asyncio.get_running_loop().run_in_executor(None, play, *arguments)
        parts = [part async for part in streamer]
        await done
        return parts

    assert "".join(asyncio.run(collect())) == TEXTS[1]


def test_rows_of_a_batch_have_texts_of_their_own(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    texts = RowTexts(tokenizer)
    found = [""] * len(rows)
    for place in range(max(map(len, rows))):
        for row, ids in enumerate(rows):
            if place < len(ids):
                found[row] += texts.feed(row, [ids[place]], is_done=place == len(ids) - 1)
    assert found == TEXTS


def test_several_rows_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="one row, and got 2"):
        TextStreamer(tokenizer).put(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(NotImplementedError, match="put"):
        BaseStreamer().put(None)
    with pytest.raises(NotImplementedError, match="end"):
        BaseStreamer().end()
