"""Classes of texts: those that a model was trained on, and those that the caller thinks up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maquette.errors import InputError
from maquette.pipelines.base import Row
from maquette.pipelines.scores import apply_function, check_count, check_function, rank, softmax, usual_function
from maquette.pipelines.texts import TextPipeline
from maquette.text.tokenization_base import CALL_OPTIONS

UNSAID: Any = ""  # no top_k: then the answer is the best label alone


@dataclass(kw_only=True)
class ClassificationOptions:
    """Options of text classification: `top_k` labels, and what turns logits into scores."""

    top_k: int | None = UNSAID
    function_to_apply: str | None = None
    set_apart: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.function_to_apply = check_function(self.function_to_apply)
        if self.top_k != UNSAID:
            check_count(self.top_k)


class TextClassificationPipeline(TextPipeline):
    """Gives the label of a text, `[{"label": "POSITIVE", "score": 0.99}]`, or with `top_k` its likeliest labels.

    A pair of texts is `{"text": "…", "text_pair": "…"}`. Options of the tokenizer's call, such as `truncation=True`,
    may be passed too.
    """

    task = "text-classification"
    auto_classes = ("AutoModelForSequenceClassification",)
    options_class = ClassificationOptions

    def further_options(self) -> list[str]:
        """Name the options of the tokenizer's call."""
        return CALL_OPTIONS

    def settle(self, options: Mapping[str, Any]) -> ClassificationOptions:
        """Check the options; those of the tokenizer's call are set apart."""
        passed = {name: value for name, value in options.items() if name in CALL_OPTIONS}
        settled: ClassificationOptions = super().settle({n: v for n, v in options.items() if n not in passed})
        settled.set_apart = {n: v for n, v in passed.items() if n not in ("padding", "return_tensors")}
        return settled

    def prepare(self, items: list[Any], options: ClassificationOptions) -> list[list[Row]]:
        """Encode texts and pairs of texts."""
        read = [_read_pair(item) for item in items]
        rows: list[list[Row]] = [[] for _ in items]
        for paired in (False, True):
            places = [place for place, (_, second) in enumerate(read) if (second is not None) is paired]
            firsts = [read[place][0] for place in places]
            seconds = [str(read[place][1]) for place in places] if paired else None
            made = self.encode(firsts, seconds, **options.set_apart) if places else []
            for place, row in zip(places, made, strict=True):
                rows[place] = [row]
        return rows

    def answer(self, rows: list[Row], outputs: list[Any], options: ClassificationOptions) -> Any:
        """Name the classes."""
        config = self.model.config
        scores = apply_function(options.function_to_apply or usual_function(config), outputs[0])
        if options.top_k == UNSAID:
            return rank(scores, config.id2label, 1)[0]
        return rank(scores, config.id2label, options.top_k)

    def finish(self, answers: Any, inputs: Any, options: Mapping[str, Any]) -> Any:
        """Give a list for one text, too, unless this call says how many labels are wanted."""
        return [answers] if isinstance(inputs, str) and "top_k" not in options else answers


def _read_pair(item: Any) -> tuple[str, str | None]:
    """Tell a text from a pair of texts."""
    if isinstance(item, str):
        return item, None
    if isinstance(item, Mapping) and isinstance(item.get("text"), str) and item.keys() <= {"text", "text_pair"}:
        return item["text"], item.get("text_pair")
    if isinstance(item, list) and len(item) == 1 and isinstance(item[0], list) and len(item[0]) == 2:
        return item[0][0], item[0][1]
    raise InputError(f'{item!r:.80} is no text: give a text, or for a pair of texts {{"text": "…", "text_pair": "…"}}.')


# Classes that the caller thinks up --------------------------------------------------------------------------------


@dataclass(kw_only=True)
class ZeroShotOptions:
    """Options of zero-shot classification.

    Attributes:
        candidate_labels: the classes, as a list or with commas between.
        hypothesis_template: the sentence about the text that the label is put into.
        multi_label: whether several may be true at once; each label then has a probability of its own.
    """

    candidate_labels: Sequence[str] | str = ()
    hypothesis_template: str = "This example is {}."
    multi_label: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.candidate_labels, str):
            self.candidate_labels = [label.strip() for label in self.candidate_labels.split(",") if label.strip()]
        if self.hypothesis_template.format("?") == self.hypothesis_template:
            raise InputError(
                f"hypothesis_template={self.hypothesis_template!r} has no {{}} where the label goes: "
                "'This example is {}.'"
            )


class ZeroShotClassificationPipeline(TextPipeline):
    """Sorts texts into classes named in the call, by a model that tells whether one sentence follows from another.

    `classifier(text, ["urgent", "not urgent"])` gives `{"sequence": …, "labels": […], "scores": […]}`.
    """

    task = "zero-shot-classification"
    auto_classes = ("AutoModelForSequenceClassification",)
    options_class = ZeroShotOptions

    def __call__(self, inputs: Any, candidate_labels: Any = None, **options: Any) -> Any:
        """Give the classes of a text, or of each text; `options` are those of `ZeroShotOptions`."""
        given = {} if candidate_labels is None else {"candidate_labels": candidate_labels}
        return super().__call__(inputs, **given, **options)

    def _entailment(self) -> int:
        found = [i for label, i in self.model.config.label2id.items() if label.lower().startswith("entail")]
        if not found:
            raise InputError(
                "Zero-shot classification needs a model that tells entailment, and none of this one's labels begins "
                f"with 'entail': {', '.join(self.model.config.label2id)}. If one of them is it, name it so in "
                "config.id2label."
            )
        return int(found[0])

    def prepare(self, items: list[Any], options: ZeroShotOptions) -> list[list[Row]]:
        """Set every text beside every label's sentence."""
        if not options.candidate_labels:
            raise InputError("candidate_labels: give at least one label, classifier(text, ['urgent', 'not urgent']).")
        self._entailment()
        if wrong := [item for item in items if not isinstance(item, str) or not item]:
            raise InputError(f"{wrong[0]!r:.80} is no text to classify.")
        sentences = [options.hypothesis_template.format(label) for label in options.candidate_labels]
        count = len(sentences)
        firsts = [item for item in items for _ in sentences]
        limited = self.tokenizer.model_max_length < 10**20
        rows = self.encode(firsts, sentences * len(items), truncation="only_first" if limited else False)
        for row, item in zip(rows, firsts, strict=True):
            row.notes["sequence"] = item
        return [rows[start : start + count] for start in range(0, len(rows), count)]

    def answer(self, rows: list[Row], outputs: list[Any], options: ZeroShotOptions) -> dict[str, Any]:
        """Rank the labels."""
        logits, entailment = np.stack(outputs), self._entailment()
        if options.multi_label or len(outputs) == 1:
            scores = softmax(logits[:, [-1 if entailment == 0 else 0, entailment]])[:, 1]
        else:
            scores = softmax(logits[:, entailment])
        best = scores.argsort()[::-1]
        return {
            "sequence": rows[0].notes["sequence"],
            "labels": [options.candidate_labels[index] for index in best],
            "scores": scores[best].tolist(),
        }
