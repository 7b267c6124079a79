"""Whisper's processor: sounds for the model to hear, and texts for it to learn to write."""

from typing import Any

from maquette.processing.pairs import SpeechTextProcessor


class WhisperProcessor(SpeechTextProcessor):
    """Prepares sounds with a feature extractor, and their texts with a tokenizer, which also reads the answers.

    Args:
        feature_extractor: such as `WhisperFeatureExtractor()`.
        tokenizer: such as `WhisperTokenizerFast.from_pretrained(…)`.
    """

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> Any:
        """Give the tokens behind the start with their places, from the tokenizer."""
        return self.tokenizer.get_decoder_prompt_ids(task, language, no_timestamps)

    def get_prompt_ids(self, text: str, return_tensors: str | None = "np") -> Any:
        """Give the ids of what was said before, from the tokenizer."""
        return self.tokenizer.get_prompt_ids(text, return_tensors)
