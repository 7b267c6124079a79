"""Text from ids that come one after another, as from a model that generates: whole characters only, nothing twice."""

import json
from collections.abc import Callable
from typing import Any

from tokenizers import decoders

from maquette.errors import InputError
from maquette.text.backend import ask
from maquette.text.byte_level_tokenization import ByteLevelBPETokenizer
from maquette.text.byte_pairs import ByteDecoder
from maquette.text.decoding_stages import (
    ANCHOR,
    ByteRuns,
    Bytes,
    Decode,
    LastToken,
    Stage,
    Start,
    Tidying,
    Tokens,
    Windows,
    Written,
)
from maquette.text.id_rows import read_id_rows
from maquette.text.tokenization import PreTrainedTokenizer
from maquette.text.tokenization_fast import PreTrainedTokenizerFast
from maquette.text.vocabulary import Vocabulary
from maquette.text.wordpiece_tokenization import WordPieceTokenizer

LOCAL = {"Replace", "Strip", "Metaspace", "WordPiece"}  # look at one token, and at whether it is the first


class IncrementalDecoder:
    """Gives the text of ids as they come; what it gave, put together, is `tokenizer.decode` of all ids.

        decoder = IncrementalDecoder(tokenizer, skip_special_tokens=True)
        for index in ids:
            print(decoder.feed(index), end="")
        print(decoder.finish())

    One decoder is for one row. Half a character is held back, and so is a space that `decode` may take out. What a
    token costs does not grow with the text. A tokenizer with a `decode` or `convert_tokens_to_string` of its own is
    asked for the text of a few tokens at a time; the promise holds there as far as that does not hang on others.

    Args:
        skip_special_tokens, clean_up_tokenization_spaces: as in `decode`.
    """

    def __init__(
        self,
        tokenizer: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> None:
        tidies = clean_up_tokenization_spaces
        self._plan = plan_for(tokenizer)
        self._tokenizer = tokenizer
        self._stages = self._plan.stages() if self._plan else []
        self._windows = Windows(
            lambda ids: tokenizer.decode(
                ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=tidies
            )
        )
        self._skipped = tokenizer._skipped_ids() if skip_special_tokens else ()
        self._tidying = Tidying() if self._plan and tokenizer._tidies(tidies) else None
        self._finished = False

    def feed(self, ids: Any) -> str:
        """Give the text that one id, or several, add; it may be empty.

        Raises:
            InputError: an id is not in the vocabulary, what is given are no ids, or `finish` was called before.
        """
        if self._finished:
            raise InputError("This IncrementalDecoder has finished its row; make another one for the next.")
        row = [ids] if type(ids) is int else read_id_rows(ids).ids.tolist()
        if self._plan is None:
            return self._windows.feed(row)
        find, skipped = self._plan.token, self._skipped
        tokens = [find(self._tokenizer, index) for index in row if index not in skipped]
        for stage in self._stages:
            tokens = stage.feed(tokens)
        text = "".join(tokens)
        return self._tidying.feed(text) if self._tidying else text

    def finish(self) -> str:
        """Give the rest of the text, now that no more ids come."""
        self._finished = True
        if self._plan is None:
            return self._windows.finish()
        tokens: list[str] = []
        for stage in self._stages:
            tokens = [*stage.feed(tokens), *stage.finish()]
        text = "".join(tokens)
        return self._tidying.feed(text) + self._tidying.finish() if self._tidying else text


class Plan:
    """How tokens become text: what the rows of one tokenizer have in common.

    Args:
        decode: gives the text of tokens.
        make: makes the stages of a row.
        added: the added tokens, and whether they lie beyond the model's own vocabulary; none where decoding takes them
            for tokens like others.
    """

    def __init__(self, decode: Decode, make: "Callable[[Plan], list[Stage]]", added: dict[str, bool]) -> None:
        odd = {token: beyond for token, beyond in added.items() if decode([token]) != token}
        self.written = {token: Written(token) for token, beyond in odd.items() if beyond}
        self.unclear = {token: False for token, beyond in odd.items() if not beyond}
        self._tokens: dict[int, str] = {}
        self._make = make

    def stages(self) -> "list[Stage]":
        """Make the stages of a row."""
        return self._make(self)

    def token(self, tokenizer: Any, index: int) -> str:
        """Give the token of an id."""
        token = self._tokens.get(index)
        if token is None:
            found = tokenizer._token_of(index)
            token = self._tokens[index] = self.written.get(found, found)
        return token


def plan_for(tokenizer: Any) -> Plan | None:
    """Find out how a tokenizer's tokens become text; None where that is code of its own."""
    kind = type(tokenizer)
    own = kind.convert_tokens_to_string
    if kind.decode is not Vocabulary.decode:
        return None
    if own is PreTrainedTokenizerFast.convert_tokens_to_string:
        state = tokenizer.decoder.__getstate__() if tokenizer.decoder else b""
        return _keep(tokenizer, state, _plan_of_decoder)
    if own is ByteLevelBPETokenizer.convert_tokens_to_string:
        return _keep(tokenizer, tokenizer.errors, _plan_of_bytes)
    if own in (PreTrainedTokenizer.convert_tokens_to_string, WordPieceTokenizer.convert_tokens_to_string):
        return _keep(tokenizer, "", lambda tokenizer: _plan_of_tokens(tokenizer.convert_tokens_to_string))
    return None


def _keep(tokenizer: Any, key: Any, make: Callable[[Any], Plan | None]) -> Plan | None:
    """Give the plan of earlier rows, while the tokenizer is what it was."""
    kept: tuple[Any, Plan | None] | None = tokenizer._scratch.get("incremental decoding")
    if kept is None or kept[0] != key:
        kept = tokenizer._scratch["incremental decoding"] = (key, make(tokenizer))
    return kept[1]


def _plan_of_bytes(tokenizer: ByteLevelBPETokenizer) -> Plan:
    added = {content: content not in tokenizer.vocab for content in tokenizer.added_tokens_encoder}
    errors = tokenizer.errors
    return Plan(ByteDecoder(errors).decode, lambda plan: [Bytes(errors, plan.unclear)], added)


def _plan_of_tokens(decode: Decode) -> Plan:
    known: dict[tuple[bool, str], str] = {}
    return Plan(decode, lambda plan: [Tokens(decode, known)], {})


def _plan_of_decoder(tokenizer: PreTrainedTokenizerFast) -> Plan | None:
    """Take a decoder of the Rust library apart: steps for each token, one that joins them, steps for the whole text."""
    decoder = tokenizer.decoder
    if decoder is None:
        return _plan_of_tokens(" ".join)
    state = json.loads(decoder.__getstate__())
    steps = state["decoders"] if state["type"] == "Sequence" else [state]
    count = next((place for place, step in enumerate(steps) if step["type"] not in LOCAL), len(steps))
    local, rest = steps[:count], steps[count:]
    kinds = [step["type"] for step in rest]
    joint = kinds[0] if kinds else ""
    fused = kinds[:2] == ["ByteFallback", "Fuse"]
    after = rest[2:] if fused else rest[1:]
    single = _decode_with(*local)
    if (
        joint not in ("", "ByteLevel", "ByteFallback", "Fuse", "BPEDecoder")
        or (after and not fused and joint not in ("ByteLevel", "Fuse"))
        or any(step["type"] != "Strip" or step["stop"] for step in after)
        or single([ANCHOR]) != ANCHOR
        or not single([ANCHOR, ANCHOR]).startswith(ANCHOR)
    ):
        return None
    known: dict[tuple[bool, str], str] = {}

    def make(plan: Plan) -> list[Stage]:
        stages: list[Stage] = [Tokens(single, known)] if local else []
        if joint == "ByteLevel":
            stages.append(Bytes("replace", plan.unclear))
        elif joint == "ByteFallback":
            stages.append(ByteRuns(plan.unclear))
        elif joint == "BPEDecoder":
            stages.append(LastToken(_decode_with(rest[0])))
        return stages + [Start(step["content"], step["start"]) for step in after]

    return Plan(lambda tokens: str(ask(lambda: decoder.decode(list(tokens)))), make, tokenizer._beyond)


def _decode_with(*steps: dict[str, Any]) -> Decode:
    """Make a decoder of the Rust library of steps as `tokenizer.json` writes them."""
    decoder = decoders.Sequence([])
    decoder.__setstate__(json.dumps({"type": "Sequence", "decoders": steps}).encode())
    return lambda tokens: str(ask(lambda: decoder.decode(list(tokens))))
