"""Whisper's processor: sounds for the model to hear, and texts for it to learn to write."""

from typing import Any

from maquette import ProcessorMixin


class WhisperProcessor(ProcessorMixin):
    """Prepares sounds with a feature extractor, and their texts with a tokenizer, which also reads the answers.

    Args:
        feature_extractor: such as `WhisperFeatureExtractor()`.
        tokenizer: such as `WhisperTokenizerFast.from_pretrained(…)`.
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
            text: what is said, or one for each clip. Alone, it gives what the tokenizer makes of it.
            options: each goes to the part that takes it; `audio_kwargs` and `text_kwargs` are for one alone.

        Raises:
            InputError: neither is given.
        """
        found = self._process(audio=audio, text=text, options=options)
        texts, features = found.get("tokenizer"), found.get("feature_extractor")
        if texts is None or features is None:
            return texts if features is None else features
        features["labels"] = texts["input_ids"]
        return features

    @property
    def model_input_names(self) -> list[str]:
        """What the feature extractor gives, and the labels."""
        return [*self.feature_extractor.model_input_names, "labels"]

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> Any:
        """Give the tokens behind the start with their places, from the tokenizer."""
        return self.tokenizer.get_decoder_prompt_ids(task, language, no_timestamps)

    def get_prompt_ids(self, text: str, return_tensors: str | None = "np") -> Any:
        """Give the ids of what was said before, from the tokenizer."""
        return self.tokenizer.get_prompt_ids(text, return_tensors)
