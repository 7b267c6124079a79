"""What a model of an encoder and a decoder is made of: two configurations, of any architectures."""

import copy
from typing import Any, Self

from maquette import PretrainedConfig
from maquette.configuration.composed import check_parts


class EncoderDecoderConfig(PretrainedConfig):
    """Configures any encoder of texts with any decoder that looks at another model.

    Args:
        encoder, decoder: configurations, or dictionaries with a `model_type`. The decoder's gets `is_decoder` and
            `add_cross_attention`.
        decoder_start_token_id: what the decoder begins with; unless given, as its own configuration says.
        pad_token_id: what stands in for labels of -100; unless given, as the decoder's configuration says.
    """

    model_type = "encoder-decoder"

    encoder: PretrainedConfig
    decoder: PretrainedConfig
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False  # parts say it of themselves
    decoder_start_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    def validate(self) -> None:
        check_parts(self)
        if self.tie_encoder_decoder:
            raise ValueError("tie_encoder_decoder=True: each part has weights of its own here; leave it out.")
        own = copy.deepcopy(self.decoder)  # the one that was given may be an encoder's, too
        own.update({"is_decoder": True, "add_cross_attention": True})
        own.validate()
        self.__dict__["decoder"] = own

    @classmethod
    def from_encoder_decoder_configs(cls, encoder_config: Any, decoder_config: Any, **fields: Any) -> Self:
        """Join two configurations, which stay as they are."""
        return cls(encoder=encoder_config, decoder=decoder_config, **fields)

    @property
    def vocab_size(self) -> int:
        """How many tokens the decoder knows."""
        return int(self.decoder.vocab_size)

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        if value != self.decoder.vocab_size:
            raise ValueError(f"vocab_size={value}: the decoder has {self.decoder.vocab_size}; resize its embeddings.")

    @property
    def max_position_embeddings(self) -> int | None:
        """How many tokens the decoder has positions for; None where any number will do."""
        return getattr(self.decoder, "max_position_embeddings", None)


class VisionEncoderDecoderConfig(EncoderDecoderConfig):
    """Configures any encoder of images with any decoder; takes what `EncoderDecoderConfig` takes."""

    model_type = "vision-encoder-decoder"


class SpeechEncoderDecoderConfig(EncoderDecoderConfig):
    """Configures any encoder of sounds with any decoder; takes what `EncoderDecoderConfig` takes."""

    model_type = "speech-encoder-decoder"
