"""Wav2Vec2's processor: sounds for the model to hear, and texts for it to learn to write."""

from typing import Any

from maquette.errors import InputError
from maquette.processing.processor import ProcessorMixin


class Wav2Vec2Processor(ProcessorMixin):
    """Prepares sounds with a feature extractor, and their transcripts with a tokenizer, which also reads the answers.

    Args:
        feature_extractor: such as `Wav2Vec2FeatureExtractor()`.
        tokenizer: such as `Wav2Vec2CTCTokenizer(vocab_file=…)`.
    """

    attributes = ["feature_extractor", "tokenizer"]  # noqa: RUF012 - a declaration, never changed
    feature_extractor_class = "AutoFeatureExtractor"
    tokenizer_class = "AutoTokenizer"
    feature_extractor: Any
    tokenizer: Any

    def __init__(self, feature_extractor: Any, tokenizer: Any) -> None:
        super().__init__(feature_extractor, tokenizer)

    def __call__(self, audio: Any = None, text: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Give what the feature extractor makes of sounds; with texts as well, their ids as `labels`.

        Args:
            audio: a clip or a batch of clips, as the feature extractor takes them.
            text: a transcript, or one for each clip. Alone, it gives what the tokenizer makes of it.
            options: each goes to both parts where both take it; `audio_kwargs` and `text_kwargs` are for one alone.

        Raises:
            InputError: neither is given.
            UnknownFieldError: neither part takes a keyword.
        """
        return _with_labels(self._process(audio=audio, text=text, options=options))

    def pad(self, input_features: Any = None, labels: Any = None, **options: Any) -> Any:
        """Bring features, and labels with them, to one length each, as a data collator does.

        Args:
            input_features: what the feature extractor gave: a batch, or a list of examples.
            labels: what the tokenizer gave, `{"input_ids": …}`. Together with features, the ids come as `labels`.
            options: those of the parts' `pad`: `padding`, `max_length`, `return_tensors`, …

        Raises:
            InputError: neither is given.
        """
        given = {"tokenizer": labels, "feature_extractor": input_features}
        used = {kind: kind for kind, value in given.items() if value is not None}
        if not used:
            raise InputError("Wav2Vec2Processor.pad was given nothing. Pass input_features, labels, or both.")
        shares = self._share(options, used, "pad")
        return _with_labels({kind: getattr(self, kind).pad(given[kind], **shares[kind]) for kind in used})

    @property
    def model_input_names(self) -> list[str]:
        """What the feature extractor gives, and the labels."""
        return [*self.feature_extractor.model_input_names, "labels"]


def _with_labels(results: dict[str, Any]) -> Any:
    """Give the one result there is, or the features with the tokenizer's ids as labels."""
    texts, features = results.get("tokenizer"), results.get("feature_extractor")
    if texts is None or features is None:
        return texts if features is None else features
    features["labels"] = texts["input_ids"]
    return features
