"""Processors of two parts, as several models have them: texts with images, texts with sounds."""

from typing import Any

from maquette.processing.processor import ProcessorMixin


class TextImageProcessor(ProcessorMixin):
    """An image processor and a tokenizer; texts come first in a call.

    Args:
        image_processor: an image processor of any class.
        tokenizer: a tokenizer of any class.
    """

    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012 - a declaration, never changed
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"
    image_processor: Any
    tokenizer: Any

    def __call__(self, text: Any = None, images: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Give the tokens of texts and the pixels of images, of either or of both.

        Args:
            text: a text, or several.
            images: an image, or several; see `BaseImageProcessor.preprocess`.
            options: each goes to every part that takes it; `images_kwargs` and `text_kwargs` are for one part alone.

        Raises:
            InputError: neither is given.
            UnknownFieldError: no part takes a keyword.
        """
        return super().__call__(images, text, **options)


class SpeechTextProcessor(ProcessorMixin):
    """A feature extractor for sounds, and a tokenizer for what is said in them, which also reads the answers.

    Args:
        feature_extractor: a feature extractor of any class.
        tokenizer: a tokenizer of any class.
    """

    attributes = ["feature_extractor", "tokenizer"]  # noqa: RUF012 - a declaration, never changed
    feature_extractor_class = "AutoFeatureExtractor"
    tokenizer_class = "AutoTokenizer"
    feature_extractor: Any
    tokenizer: Any

    def __call__(self, audio: Any = None, text: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Give what the feature extractor makes of sounds; with texts as well, their ids as `labels`.

        Args:
            audio: a clip or a batch of clips, as the feature extractor takes them.
            text: what is said, or one for each clip. Alone, it gives what the tokenizer makes of it.
            options: each goes to both parts where both take it; `audio_kwargs` and `text_kwargs` are for one alone.

        Raises:
            InputError: neither is given.
            UnknownFieldError: neither part takes a keyword.
        """
        return with_labels(self._process(audio=audio, text=text, options=options))

    @property
    def model_input_names(self) -> list[str]:
        """What the feature extractor gives, and the labels."""
        return [*self.feature_extractor.model_input_names, "labels"]


def with_labels(results: dict[str, Any]) -> Any:
    """Give the one result there is, or the features with the tokenizer's ids as labels."""
    texts, features = results.get("tokenizer"), results.get("feature_extractor")
    if texts is None or features is None:
        return texts if features is None else features
    features["labels"] = texts["input_ids"]
    return features
