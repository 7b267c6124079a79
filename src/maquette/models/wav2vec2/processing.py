"""Wav2Vec2's processor: sounds for the model to hear, and texts for it to learn to write."""

from typing import Any

from maquette.errors import InputError
from maquette.processing.pairs import SpeechTextProcessor, with_labels


class Wav2Vec2Processor(SpeechTextProcessor):
    """Prepares sounds with a feature extractor, and their transcripts with a tokenizer, which also reads the answers.

    Args:
        feature_extractor: such as `Wav2Vec2FeatureExtractor()`.
        tokenizer: such as `Wav2Vec2CTCTokenizer(vocab_file=…)`.
    """

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
        return with_labels({kind: getattr(self, kind).pad(given[kind], **shares[kind]) for kind in used})
