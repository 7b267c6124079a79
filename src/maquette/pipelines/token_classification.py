"""Labels of tokens, words and entities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.batch.padding import check_choice
from maquette.errors import InputError
from maquette.pipelines.base import Row
from maquette.pipelines.scores import softmax
from maquette.pipelines.texts import TextPipeline

STRATEGIES = ("none", "simple", "first", "average", "max")
BY_WORD = ("first", "average", "max")
Entity = dict[str, Any]


@dataclass(kw_only=True)
class TokenOptions:
    """Options of token classification.

    Attributes:
        aggregation_strategy: "none" gives tokens; "simple" joins neighbours of one label to entities; "first",
            "average" and "max" first give all tokens of a word one label: that of its first token, of the mean of
            its scores, of its surest token.
        ignore_labels: labels that are left out.
        stride: how many tokens the windows of a long text share; without it, a long text is cut.
        is_split_into_words: texts are lists of words.
        delimiter: what is put between those words in the text that `start` and `end` count in.
    """

    aggregation_strategy: str = "none"
    ignore_labels: Sequence[str] = ("O",)
    stride: int | None = None
    is_split_into_words: bool = False
    delimiter: str | None = None

    def __post_init__(self) -> None:
        name = str(getattr(self.aggregation_strategy, "value", self.aggregation_strategy)).lower()
        self.aggregation_strategy = check_choice("aggregation_strategy", name, STRATEGIES)


class TokenClassificationPipeline(TextPipeline):
    """Gives what each token is, or with an `aggregation_strategy` the entities of a text.

    `[{"entity_group": "LOC", "score": 0.99, "word": "Paris", "start": 12, "end": 17}, …]`.
    """

    task = "token-classification"
    auto_classes = ("AutoModelForTokenClassification",)
    options_class = TokenOptions

    def settle(self, options: Mapping[str, Any]) -> TokenOptions:
        """Check the options, and whether the tokenizer can do what they ask for."""
        settled: TokenOptions = super().settle(options)
        by_word = settled.aggregation_strategy in BY_WORD
        if (by_word or settled.stride is not None or settled.is_split_into_words) and not self.tokenizer.is_fast:
            raise InputError(
                'Words, windows and split texts need a fast tokenizer, which knows where tokens lie; "none" and '
                '"simple" do without.'
            )
        return settled

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Give the tokens or entities of a text, or of each text."""
        words = {**self.defaults, **options}.get("is_split_into_words")
        if words and isinstance(inputs, list) and not all(isinstance(item, list) for item in inputs):
            inputs = [inputs]
        return super().__call__(inputs, **options)

    def prepare(self, items: list[Any], options: TokenOptions) -> list[list[Row]]:
        """Encode texts, the long ones in windows."""
        if options.stride is not None and options.aggregation_strategy == "none":
            raise InputError("stride needs an aggregation_strategy: tokens of two windows are compared as entities.")
        return [self._encode_one(item, options) for item in items]

    def _encode_one(self, item: Any, options: TokenOptions) -> list[Row]:
        spans = None
        text = item
        if options.is_split_into_words:
            if not isinstance(item, list):
                raise InputError(f"is_split_into_words=True takes lists of words, not {item!r:.80}.")
            text, spans = _join(item, " " if options.delimiter is None else options.delimiter)
        elif not isinstance(item, str):
            raise InputError(f"{item!r:.80} is no text. For lists of words, pass is_split_into_words=True.")
        windows = {"return_overflowing_tokens": True, "stride": options.stride} if options.stride is not None else {}
        encoded = self.tokenizer(
            [item],
            truncation=True,
            is_split_into_words=options.is_split_into_words,
            return_special_tokens_mask=True,
            return_offsets_mapping=self.tokenizer.is_fast,
            **windows,
        )
        rows = []
        for index in range(len(encoded["input_ids"])):
            values = {name: column[index] for name, column in encoded.items()}
            values.pop("overflow_to_sample_mapping", None)
            notes = {"text": text, "special": values.pop("special_tokens_mask")}
            notes["offsets"] = values.pop("offset_mapping", None)
            if spans is not None:
                words = encoded.word_ids(index)
                moved = zip(notes["offsets"], words, strict=True)
                notes["offsets"] = [_move(place, 0 if word is None else spans[word][0]) for place, word in moved]
            rows.append(Row(values, notes))
        return rows

    def read(self, outputs: Any, rows: list[Row], options: TokenOptions) -> list[Any]:
        """Keep the scores of the tokens, (tokens, labels)."""
        return [softmax(one.float().cpu().numpy()) for one in self.trim(outputs["logits"], rows)]

    def answer(self, rows: list[Row], outputs: list[Any], options: TokenOptions) -> list[Entity]:
        """Name the tokens, and join them."""
        found: list[Entity] = []
        for row, scores in zip(rows, outputs, strict=True):
            tokens = self._tokens(row, scores, by_word=options.aggregation_strategy in BY_WORD)
            found += self._named(tokens, options)
        if len(rows) > 1:
            found = _merge_windows(found)
        return [_plain(entity) for entity in found]

    def _named(self, tokens: list[Entity], options: TokenOptions) -> list[Entity]:
        strategy = options.aggregation_strategy
        labels = self.model.config.id2label
        if strategy in BY_WORD:
            entities = [self._join_word(word, CHOICES[strategy]) for word in _words(tokens)]
        else:
            entities = [_label(token, token["scores"], labels) for token in tokens]
        if strategy == "none":
            return [entity for entity in entities if entity["entity"] not in options.ignore_labels]
        groups = [self._join_group(group) for group in _groups(entities)]
        return [group for group in groups if group["entity_group"] not in options.ignore_labels]

    def _tokens(self, row: Row, scores: Any, *, by_word: bool) -> list[Entity]:
        """List the tokens of a row that are not special."""
        text, offsets = row.notes["text"], row.notes["offsets"]
        knows_words = _knows_words(self.tokenizer)
        found = []
        for index, token_scores in enumerate(scores):
            if row.notes["special"][index]:
                continue
            token = row.inputs["input_ids"][index]
            word, start, end, inside = self.tokenizer.convert_ids_to_tokens(int(token)), None, None, False
            if offsets is not None:
                start, end = map(int, offsets[index])
                piece = text[start:end]
                touches = start > 0 and " " not in text[start - 1 : start + 1]
                inside = len(word) != len(piece) if knows_words else touches
                if token == self.tokenizer.unk_token_id:
                    word, inside = piece, False
            found.append(
                {"word": word, "scores": token_scores, "start": start, "end": end, "index": index, "inside": inside}
            )
        return found

    def _text(self, tokens: list[str]) -> str:
        text: str = self.tokenizer.convert_tokens_to_string(tokens)
        tidies = _knows_words(self.tokenizer) and self.tokenizer.clean_up_tokenization_spaces
        return self.tokenizer.clean_up_tokenization(text) if tidies else text

    def _join_word(self, tokens: list[Entity], choose: Callable[[list[Entity]], Any]) -> Entity:
        word = self._text([token["word"] for token in tokens])
        whole = {"word": word, "start": tokens[0]["start"], "end": tokens[-1]["end"]}
        return _label(whole, choose(tokens), self.model.config.id2label)

    def _join_group(self, entities: list[Entity]) -> Entity:
        return {
            "entity_group": entities[0]["entity"].split("-", 1)[-1],
            "score": np.mean([entity["score"] for entity in entities]),
            "word": self._text([entity["word"] for entity in entities]),
            "start": entities[0]["start"],
            "end": entities[-1]["end"],
        }


# How the tokens of a word come to one row of scores.
CHOICES: dict[str, Callable[[list[Entity]], Any]] = {
    "first": lambda tokens: tokens[0]["scores"],
    "max": lambda tokens: max((token["scores"] for token in tokens), key=np.max),
    "average": lambda tokens: np.mean([token["scores"] for token in tokens], axis=0),
}


def _label(entity: Entity, scores: Any, labels: Mapping[int, str]) -> Entity:
    best = int(scores.argmax())
    order = ("index", "word", "start", "end")
    return {"entity": labels[best], "score": scores[best], **{name: entity[name] for name in order if name in entity}}


def _knows_words(tokenizer: Any) -> bool:
    """Tell whether a tokenizer marks tokens that go on with a word, as WordPiece does."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return bool(backend is not None and getattr(backend.model, "continuing_subword_prefix", None))


def _words(tokens: list[Entity]) -> list[list[Entity]]:
    """Part tokens into words: one begins with every token that does not go on with a word."""
    words: list[list[Entity]] = []
    for token in tokens:
        if words and token["inside"]:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _groups(entities: list[Entity]) -> list[list[Entity]]:
    """Part entities into groups: one ends where the label changes, or another begins with `B-`."""
    groups: list[list[Entity]] = []
    last = ""
    for entity in entities:
        begins, tag = entity["entity"].startswith("B-"), entity["entity"].removeprefix("B-")
        tag = tag if begins else tag.removeprefix("I-")
        if groups and tag == last and not begins:
            groups[-1].append(entity)
        else:
            groups.append([entity])
        last = tag
    return groups


def _join(words: list[str], delimiter: str) -> tuple[str, list[tuple[int, int]]]:
    """Give the text of words, and each one's place in it."""
    spans, start = [], 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + len(delimiter)
    return delimiter.join(words), spans


def _move(place: Any, by: int) -> tuple[int, int]:
    return place[0] + by, place[1] + by


def _merge_windows(entities: list[Entity]) -> list[Entity]:
    """Of entities that two windows both found, keep the longer one, or of two of one length the surer."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda one: one["start"]):
        last = kept[-1] if kept else None
        if last is None or not last["start"] <= entity["start"] < last["end"]:
            kept.append(entity)
        elif (_length(entity), entity["score"]) > (_length(last), last["score"]):
            kept[-1] = entity
    return kept


def _length(entity: Entity) -> int:
    return int(entity["end"]) - int(entity["start"])


def _plain(entity: Entity) -> Entity:
    return {**entity, "score": float(entity["score"])}
