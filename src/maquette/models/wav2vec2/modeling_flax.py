"""Wav2Vec2 (Baevski et al. 2020) in Flax: the torch model's modules under the torch model's names.

The modules are in `encoder_flax`; `modeling.py` tells what else there is to know. Models give logits, no losses.
`train=True` drops states out and hides frames, by the random numbers called "dropout".
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.initializers import constant
from jax import Array

from maquette import CausalLMOutput, FlaxPreTrainedModel, SequenceClassifierOutput, Wav2Vec2BaseModelOutput
from maquette.modeling.flax_layers import fill_padding

from .configuration import Wav2Vec2Config
from .encoder_flax import Adapter, Encoder, FeatureEncoder, FeatureProjection, Opt, linear
from .frames import (
    check_clips,
    check_hidden,
    check_waves,
    count_frames,
    count_letters,
    hides_frames,
    make_waves,
    place_spans,
    refuse_adapter,
)
from .languages import LanguageMixin


class FlaxWav2Vec2PreTrainedModel(FlaxPreTrainedModel):
    """What all Wav2Vec2 models share. Heads take the arguments of `FlaxWav2Vec2Model`.

    Padding is not real: outputs there are zeros, and means are of real frames. A clip may lie anywhere in its row; its
    frames are the first ones of its row in every output. Only with `feat_extract_norm="group"`, whose norm looks at
    whole rows, does what pads a row change the clip's own frames.
    """

    config_class = Wav2Vec2Config
    base_model_prefix = "wav2vec2"
    main_input_name = "input_values"
    _keys_to_ignore_on_load_missing = (r"masked_spec_embed$",)  # many fine-tuned checkpoints were saved without it

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"input_values": make_waves(self.config)}

    def _encode(self, input_values: Array, attention_mask: Opt, options: dict[str, Any], **wanted: bool) -> Any:
        """Run the base model for a head."""
        return self.wav2vec2(input_values, attention_mask, **{**options, **wanted, "return_dict": True})

    def _locate(self, attention_mask: Opt, x: Array, *, adapted: bool = False) -> tuple[Array, Opt]:
        """Count the real frames of each row of `x`, `(batch,)`, and mark them, `(batch, frames)`, or None for all."""
        if attention_mask is None:
            return jnp.full(x.shape[0], x.shape[1]), None
        samples = jnp.asarray(attention_mask).astype(bool).sum(1)
        counts = count_frames(samples, self.config, adapted=adapted)
        return counts, jnp.arange(x.shape[1]) < counts[:, None]


class FlaxWav2Vec2Model(FlaxWav2Vec2PreTrainedModel):
    """Turns sounds into states, one vector per frame."""

    def setup(self) -> None:
        config = self.config
        self.feature_extractor = FeatureEncoder(config)
        self.feature_projection = FeatureProjection(config)
        if hides_frames(config):
            self.masked_spec_embed = self.param("masked_spec_embed", jax.random.uniform, (config.hidden_size,))
        self.encoder = Encoder(config)
        self.adapter = Adapter(config, config.output_hidden_size or config.hidden_size) if config.add_adapter else None

    def __call__(
        self,
        input_values: Array,
        attention_mask: Opt = None,
        *,
        mask_time_indices: Opt = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, frames, hidden_size)`, and features.

        Args:
            input_values: `(batch, samples)`.
            attention_mask: `(batch, samples)`, 0 at padding; unless given, all samples are real.
            mask_time_indices: `(batch, frames)`, True at frames that `masked_spec_embed` hides; unless given, some are
                hidden while training, as the configuration says.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            train: hide frames, and drop states out.

        Raises:
            ValueError: another shape; and, outside of compiled code, a clip too short to make a frame, or one that has
                padding inside.
        """
        features = self.feature_extractor(self._align(jnp.asarray(input_values), attention_mask))
        counts, real = self._locate(attention_mask, features)
        x, features = self.feature_projection(features, train)  # (batch, frames, width), (batch, frames, channels)
        x = self._hide(x, counts, mask_time_indices, train)
        x, states, weights = self.encoder(x, real, train)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        output = Wav2Vec2BaseModelOutput(
            last_hidden_state=fill_padding(x, real) if self.adapter is None else self.adapter(x, real),
            extract_features=fill_padding(features, real),
            hidden_states=tuple(fill_padding(state, real) for state in states) if keep_states else None,
            attentions=tuple(weights) if self._chosen("output_attentions", output_attentions) else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()

    def _align(self, waves: Array, mask: Opt) -> Array:
        """Have every clip begin at the first sample of its row."""
        check_waves(waves.shape, waves.dtype, self.config, mask=None if mask is None else mask.shape)
        if mask is None:
            return waves
        mask = jnp.asarray(mask).astype(bool)
        starts = mask.argmax(1)
        if not isinstance(mask, jax.core.Tracer):
            runs = mask[:, 0] + (mask[:, 1:] & ~mask[:, :-1]).sum(1)
            check_clips(np.asarray(mask.sum(1)), np.asarray(runs), self.config)
            if not starts.any():
                return waves
        places = (jnp.arange(waves.shape[1]) + starts[:, None]) % waves.shape[1]
        return jnp.take_along_axis(waves, places, axis=1)

    def _hide(self, x: Array, counts: Array, mask: Opt, train: bool) -> Array:
        """Mask frames, and channels of whole clips (Park et al. 2019)."""
        config = self.config
        if not config.apply_spec_augment:
            return x
        if mask is not None:
            check_hidden(mask.shape, x.shape[:2], config)
        if mask is None and train and config.mask_time_prob > 0:
            spans = {"share": config.mask_time_prob, "span": config.mask_time_length}
            mask = self._draw(x.shape[:2], counts, **spans, least=config.mask_time_min_masks)
        if mask is not None:
            x = jnp.where(jnp.asarray(mask).astype(bool)[..., None], self.masked_spec_embed.astype(x.dtype), x)
        if train and config.mask_feature_prob > 0:
            spans = {"share": config.mask_feature_prob, "span": config.mask_feature_length}
            widths = jnp.full(x.shape[0], config.hidden_size)
            hidden = self._draw(x.shape[::2], widths, **spans, least=config.mask_feature_min_masks)
            x = jnp.where(hidden[:, None], jnp.zeros((), x.dtype), x)
        return x

    def _draw(self, shape: tuple[int, ...], lengths: Array, **spans: Any) -> Array:
        """Choose spans in `(batch, length)`."""
        draws, chance = (jax.random.uniform(self.make_rng("dropout"), size) for size in (shape, ()))
        hidden: Array = place_spans(jnp, draws, chance, lengths.astype(draws.dtype), **spans)
        return hidden


class FlaxWav2Vec2ForCTC(LanguageMixin, FlaxWav2Vec2PreTrainedModel):
    """Writes down what was said (Graves et al. 2006)."""

    def setup(self) -> None:
        self.wav2vec2 = FlaxWav2Vec2Model(self.config)
        self.dropout = nn.Dropout(self.config.final_dropout)
        self.lm_head = linear(self.config, count_letters(self.config))

    def __call__(self, input_values: Array, attention_mask: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, frames, vocab_size)`."""
        output = self._encode(input_values, attention_mask, options)
        logits = self.lm_head(self.dropout(output.last_hidden_state, deterministic=not options.get("train")))
        real = self._locate(attention_mask, logits, adapted=self.config.add_adapter)[1]
        return self._make_output(CausalLMOutput, output, options, None, fill_padding(logits, real))


class FlaxWav2Vec2ForSequenceClassification(FlaxWav2Vec2PreTrainedModel):
    """Tells which class, or classes, a clip is of, or the numbers that belong to it."""

    def setup(self) -> None:
        config = self.config
        refuse_adapter(self)
        self.wav2vec2 = FlaxWav2Vec2Model(config)
        if config.use_weighted_layer_sum:
            count = config.num_hidden_layers + 1
            self.layer_weights = self.param("layer_weights", constant(1 / count), (count,))
        self.projector = linear(config, config.classifier_proj_size)
        self.classifier = linear(config, config.num_labels)

    def __call__(self, input_values: Array, attention_mask: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`."""
        wanted, mixes = options.get("output_hidden_states"), self.config.use_weighted_layer_sum
        wanted = self._chosen("output_hidden_states", wanted)
        output = self._encode(input_values, attention_mask, options, output_hidden_states=wanted or mixes)
        x = output.last_hidden_state
        if mixes:
            shares = nn.softmax(self.layer_weights).astype(x.dtype)
            x = sum(share * states for share, states in zip(shares, output.hidden_states, strict=True))
        output.hidden_states = output.hidden_states if wanted else None
        x = self.projector(x)  # (batch, frames, classifier_proj_size)
        counts, real = self._locate(attention_mask, x)
        mean = fill_padding(x, real).sum(1) / jnp.maximum(counts, 1).astype(x.dtype)[:, None]
        return self._make_output(SequenceClassifierOutput, output, options, None, self.classifier(mean))
