"""Answers that stand in a text."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.errors import InputError
from maquette.pipelines.base import Row
from maquette.pipelines.scores import check_count, softmax
from maquette.pipelines.texts import TextPipeline

HIDDEN = -10000.0  # the logit of a place where no answer may begin or end
Answer = dict[str, Any]


@dataclass(kw_only=True)
class AnswerOptions:
    """Options of question answering.

    Attributes:
        top_k: how many answers; one is given alone, several as a list.
        doc_stride: how many tokens the windows of a long text share; 128, or half a window where that is less.
        max_seq_len: how many tokens a window has with its question; 384, or what the model takes.
        max_answer_len: how many tokens an answer has at most.
        max_question_len: how many tokens of the question are kept.
        handle_impossible_answer: let the empty text be an answer, too.
        align_to_words: begin and end answers at words.
    """

    top_k: int = 1
    doc_stride: int | None = None
    max_seq_len: int | None = None
    max_answer_len: int = 15
    max_question_len: int = 64
    handle_impossible_answer: bool = False
    align_to_words: bool = True

    def __post_init__(self) -> None:
        check_count(self.top_k)
        if self.max_answer_len < 1:
            raise InputError(f"max_answer_len={self.max_answer_len}: at least 1 is needed.")


class QuestionAnsweringPipeline(TextPipeline):
    """Finds the answer to a question in a text: `{"score": 0.9, "start": 11, "end": 16, "answer": "Paris"}`.

    Call it with `question=` and `context=`, or with `{"question": …, "context": …}`, or lists of either. A text longer
    than the model takes is read in windows.
    """

    task = "question-answering"
    auto_classes = ("AutoModelForQuestionAnswering",)
    options_class = AnswerOptions

    def __call__(self, inputs: Any = None, *, question: Any = None, context: Any = None, **options: Any) -> Any:
        """Give the answer to a question, or to each question; `options` are those of `AnswerOptions`."""
        if inputs is None:
            inputs = _pair(question, context)
        elif question is not None or context is not None:
            raise InputError("Give inputs, or question= and context=, not both.")
        return super().__call__(inputs, **options)

    def settle(self, options: Mapping[str, Any]) -> AnswerOptions:
        """Check the options; windows need a fast tokenizer."""
        if not self.tokenizer.is_fast:
            raise InputError("Question answering needs a fast tokenizer, which knows where tokens lie.")
        settled: AnswerOptions = super().settle(options)
        return settled

    def prepare(self, items: list[Any], options: AnswerOptions) -> list[list[Row]]:
        """Encode each question with its text, in windows."""
        return [self._windows(item, options) for item in items]

    def _windows(self, item: Any, options: AnswerOptions) -> list[Row]:
        question, context = _read(item)
        length = options.max_seq_len or min(self.tokenizer.model_max_length, 384)
        stride = min(length // 2, 128) if options.doc_stride is None else options.doc_stride
        question = self._shorten(question, options.max_question_len)
        first = self.tokenizer.padding_side == "right"
        encoded = self.tokenizer(
            [question if first else context],
            [context if first else question],
            truncation="only_second" if first else "only_first",
            max_length=length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        rows = []
        for index in range(len(encoded["input_ids"])):
            values = {name: column[index] for name, column in encoded.items()}
            values.pop("overflow_to_sample_mapping", None)
            offsets, sequence = values.pop("offset_mapping"), int(first)
            inside = np.array([part == sequence for part in encoded.sequence_ids(index)])
            words = encoded.word_ids(index) if options.align_to_words else [None] * len(inside)
            notes = {"context": context, "offsets": offsets, "inside": inside, "words": words}
            rows.append(Row(values, notes))
        return rows

    def _shorten(self, question: str, most: int) -> str:
        """Cut a question that is too long after its last token that fits."""
        places = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return question if len(places) <= most else question[: places[most - 1][1]]

    def read(self, outputs: Any, rows: list[Row], options: AnswerOptions) -> list[Any]:
        """Keep the logits of where answers begin and end, (2, tokens)."""
        both = zip(self.trim(outputs["start_logits"], rows), self.trim(outputs["end_logits"], rows), strict=True)
        return [np.stack([one.float().cpu().numpy() for one in pair]) for pair in both]

    def answer(self, rows: list[Row], outputs: list[Any], options: AnswerOptions) -> Any:
        """Rank the answers of all windows."""
        found: list[Answer] = []
        nothing, cls = 1.0, self.tokenizer.cls_token_id
        for row, logits in zip(rows, outputs, strict=True):
            allowed, ids = row.notes["inside"].copy(), list(row.inputs["input_ids"])
            start = ids.index(cls) if cls in ids else None
            if start is not None:
                allowed[start] = True  # where a model points that finds no answer
            begins, ends = (softmax(np.where(allowed, one, HIDDEN)) for one in logits)
            if start is not None:
                nothing = min(nothing, float(begins[start] * ends[start]))
                begins[start] = ends[start] = 0.0
            found += [_locate(row, *span) for span in _best_spans(begins, ends, row.notes["inside"], options)]
        if options.handle_impossible_answer:
            found.append({"score": nothing, "start": 0, "end": 0, "answer": ""})
        best = sorted(found, key=lambda one: one["score"], reverse=True)[: options.top_k]
        return best[0] if len(best) == 1 else best


def _best_spans(begins: Any, ends: Any, inside: Any, options: AnswerOptions) -> list[tuple[int, int, float]]:
    """Give the likeliest spans of tokens: first token, last token and the product of both probabilities."""
    spans = np.triu(np.outer(begins, ends))
    spans = np.tril(spans, options.max_answer_len - 1)
    spans[~inside] = 0
    spans[:, ~inside] = 0
    flat = spans.reshape(-1)
    places = heapq.nlargest(options.top_k, range(len(flat)), key=flat.__getitem__) if flat.any() else []
    return [(place // len(ends), place % len(ends), float(flat[place])) for place in places if flat[place] > 0]


def _locate(row: Row, first: int, last: int, score: float) -> Answer:
    """Give the place of an answer in its text: that of the words it begins and ends in, where there are words."""
    offsets, words, inside = row.notes["offsets"], row.notes["words"], row.notes["inside"]

    def word_of(token: int) -> list[int]:
        same = [i for i, word in enumerate(words) if inside[i] and word is not None and word == words[token]]
        return same or [token]

    start, end = int(offsets[word_of(first)[0]][0]), int(offsets[word_of(last)[-1]][1])
    return {"score": score, "start": start, "end": end, "answer": row.notes["context"][start:end]}


def _pair(question: Any, context: Any) -> Any:
    """Give questions with their texts; one text for several questions is each one's."""
    if question is None or context is None:
        raise InputError("Question answering needs a question and a text: question='…', context='…'.")
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    questions = [question] if isinstance(question, str) else list(question)
    contexts = [context] * len(questions) if isinstance(context, str) else list(context)
    if len(questions) == 1 and len(contexts) > 1:
        questions *= len(contexts)
    if len(questions) != len(contexts):
        raise InputError(f"There are {len(questions)} questions and {len(contexts)} texts; give one text for each.")
    return [{"question": one, "context": other} for one, other in zip(questions, contexts, strict=True)]


def _read(item: Any) -> tuple[str, str]:
    if not isinstance(item, Mapping) or not {"question", "context"} <= item.keys():
        raise InputError(f'{item!r:.80} is no question with its text: give {{"question": "…", "context": "…"}}.')
    for name in ("question", "context"):
        if not isinstance(item[name], str) or not item[name].strip():
            raise InputError(f"The {name} is {item[name]!r:.80}, where a text belongs that is not empty.")
    return item["question"], item["context"]
