"""Wav2Vec2 (Baevski et al. 2020) in Keras: the torch model's layers under the torch model's names.

The layers are in `encoder_tf`. Padding is computed along: `real` is `(batch, frames)`, True at real frames, or None
(Keras keeps the name `mask` for something else). `modeling.py` tells what else there is to know.
"""

from typing import Any

import keras
from keras import ops
from keras.initializers import Constant, RandomUniform
from keras.layers import Dropout

from maquette import CausalLMOutput, SequenceClassifierOutput, TFPreTrainedModel, Wav2Vec2BaseModelOutput
from maquette.modeling.tf_layers import fill_padding, look_at
from maquette.modeling.tf_losses import compute_classification_loss, compute_ctc_loss

from .configuration import Wav2Vec2Config
from .encoder_tf import Adapter, Encoder, FeatureEncoder, FeatureProjection, linear
from .frames import (
    check_clips,
    check_hidden,
    check_letters,
    check_waves,
    count_frames,
    count_letters,
    hides_frames,
    make_waves,
    place_spans,
    refuse_adapter,
)
from .languages import LanguageMixin


class TFWav2Vec2PreTrainedModel(TFPreTrainedModel):
    """What all Wav2Vec2 models share. Heads take the arguments of `TFWav2Vec2Model`, and labels.

    Padding is not real: outputs there are zeros, and means are of real frames. A clip may lie anywhere in its row; its
    frames are the first ones of its row in every output. Only with `feat_extract_norm="group"`, whose norm looks at
    whole rows, does what pads a row change the clip's own frames.
    """

    config: Wav2Vec2Config
    config_class = Wav2Vec2Config
    base_model_prefix = "wav2vec2"
    main_input_name = "input_values"
    _keys_to_ignore_on_load_missing = (r"masked_spec_embed$",)  # many fine-tuned checkpoints were saved without it

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"input_values": make_waves(self.config)}

    def freeze_feature_encoder(self) -> None:
        """Keep the convolutions that hear as they are while the rest is trained."""
        self.base_model.feature_extractor.trainable = False

    def freeze_base_model(self) -> None:
        """Keep all but the head as it is."""
        self.base_model.trainable = False

    def _encode(self, input_values: Any, attention_mask: Any, options: dict[str, Any], **wanted: bool) -> Any:
        """Run the base model for a head."""
        return self.wav2vec2(input_values, attention_mask, **{**options, **wanted, "return_dict": True})

    def _locate(self, attention_mask: Any, x: Any, *, adapted: bool = False) -> tuple[Any, Any]:
        """Count the real frames of each row of `x`, `(batch,)`, and mark them, `(batch, frames)`, or None for all."""
        if attention_mask is None:
            return ops.zeros_like(x[:, 0, 0], dtype="int32") + ops.shape(x)[1], None
        samples = ops.sum(ops.cast(ops.cast(attention_mask, "bool"), "int32"), axis=1)
        counts = count_frames(samples, self.config, adapted=adapted)
        return counts, ops.arange(ops.shape(x)[1]) < counts[:, None]


class TFWav2Vec2Model(TFWav2Vec2PreTrainedModel):
    """Turns sounds into states, one vector per frame."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.feature_extractor = FeatureEncoder(config)
        self.feature_projection = FeatureProjection(config)
        if hides_frames(config):
            uniform = RandomUniform(0.0, 1.0)
            self.masked_spec_embed = self.add_weight(
                shape=(config.hidden_size,), initializer=uniform, name="masked_spec_embed"
            )
        self.encoder = Encoder(config)
        self.adapter = Adapter(config, config.output_hidden_size or config.hidden_size) if config.add_adapter else None
        self.seeds = keras.random.SeedGenerator()

    def call(
        self,
        input_values: Any,
        attention_mask: Any = None,
        *,
        mask_time_indices: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = None,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, frames, hidden_size)`, and features.

        Args:
            input_values: `(batch, samples)`.
            attention_mask: `(batch, samples)`, 0 at padding; unless given, all samples are real.
            mask_time_indices: `(batch, frames)`, True at frames that `masked_spec_embed` hides; unless given, some are
                hidden while training, as the configuration says.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            training: hide, and drop out; Keras says so in `fit`.

        Raises:
            ValueError: another shape; and, outside of compiled code, a clip too short to make a frame, or one that has
                padding inside.
        """
        features = self.feature_extractor(self._align(input_values, attention_mask))
        counts, real = self._locate(attention_mask, features)
        x, features = self.feature_projection(features)  # (batch, frames, width), (batch, frames, channels)
        x = self._hide(x, counts, mask_time_indices, training)
        x, states, weights = self.encoder(x, real)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        output = Wav2Vec2BaseModelOutput(
            last_hidden_state=fill_padding(x, real) if self.adapter is None else self.adapter(x, real),
            extract_features=fill_padding(features, real),
            hidden_states=tuple(fill_padding(state, real) for state in states) if keep_states else None,
            attentions=tuple(weights) if self._chosen("output_attentions", output_attentions) else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()

    def _align(self, waves: Any, mask: Any) -> Any:
        """Have every clip begin at the first sample of its row."""
        kind = keras.backend.standardize_dtype(waves.dtype)
        check_waves(tuple(waves.shape), kind, self.config, mask=None if mask is None else tuple(mask.shape))
        if mask is None:
            return waves
        mask = ops.cast(ops.cast(mask, "bool"), "int32")
        starts = ops.argmax(mask, axis=1)
        runs = mask[:, 0] + ops.sum(mask[:, 1:] * (1 - mask[:, :-1]), axis=1)
        known = look_at(ops.stack([ops.sum(mask, axis=1), runs, starts]))
        if known is not None:
            check_clips(known[0], known[1], self.config)
            if not known[2].any():
                return waves
        length = ops.shape(waves)[1]
        return ops.take_along_axis(waves, (ops.arange(length) + starts[:, None]) % length, axis=1)

    def _hide(self, x: Any, counts: Any, mask: Any, training: bool | None) -> Any:
        """Mask frames, and channels of whole clips (Park et al. 2019)."""
        config = self.config
        if not config.apply_spec_augment:
            return x
        if mask is not None:
            check_hidden(tuple(mask.shape), tuple(x.shape[:2]), config)
        if mask is None and training and config.mask_time_prob > 0:
            spans = {"share": config.mask_time_prob, "span": config.mask_time_length}
            mask = self._draw(x[..., 0], counts, **spans, least=config.mask_time_min_masks)
        if mask is not None:
            x = ops.where(ops.cast(mask, "bool")[..., None], ops.cast(self.masked_spec_embed, x.dtype), x)
        if training and config.mask_feature_prob > 0:
            spans = {"share": config.mask_feature_prob, "span": config.mask_feature_length}
            widths = ops.zeros_like(counts) + config.hidden_size
            hidden = self._draw(x[:, 0], widths, **spans, least=config.mask_feature_min_masks)
            x = ops.where(hidden[:, None], ops.cast(0.0, x.dtype), x)
        return x

    def _draw(self, x: Any, lengths: Any, **spans: Any) -> Any:
        """Choose spans of the second axis of `x`, `(batch, length)`."""
        draws, chance = (keras.random.uniform(shape, seed=self.seeds) for shape in (ops.shape(x), ()))
        return place_spans(ops, draws, chance, ops.cast(lengths, draws.dtype), **spans)


class TFWav2Vec2ForCTC(LanguageMixin, TFWav2Vec2PreTrainedModel):
    """Writes down what was said (Graves et al. 2006)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        letters = count_letters(config)
        self.wav2vec2 = TFWav2Vec2Model(config)
        self.dropout = Dropout(config.final_dropout)
        self.lm_head = linear(config, letters)

    def call(self, input_values: Any, attention_mask: Any = None, *, labels: Any = None, **options: Any) -> Any:
        """Give logits `(batch, frames, vocab_size)`; `labels` are `(batch, length)`, of which -100 is left out."""
        output = self._encode(input_values, attention_mask, options)
        logits = self.lm_head(self.dropout(output.last_hidden_state))
        counts, real = self._locate(attention_mask, logits, adapted=self.config.add_adapter)
        loss = None if labels is None else self._compare(logits, labels, counts)
        return self._make_output(CausalLMOutput, output, options, loss, fill_padding(logits, real))

    def _compare(self, logits: Any, labels: Any, counts: Any) -> Any:
        config, values = self.config, look_at(labels)
        known = [] if values is None else values[values != -100].tolist()
        check_letters(tuple(labels.shape), logits.shape[0], known, config)
        options: dict[str, Any] = {"reduction": config.ctc_loss_reduction, "zero_infinity": config.ctc_zero_infinity}
        return compute_ctc_loss(logits, labels, counts, blank=config.pad_token_id or 0, **options)


class TFWav2Vec2ForSequenceClassification(TFWav2Vec2PreTrainedModel):
    """Tells which class, or classes, a clip is of, or the numbers that belong to it."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        refuse_adapter(self)
        self.wav2vec2 = TFWav2Vec2Model(config)
        self.layer_weights = None
        if config.use_weighted_layer_sum:
            count = config.num_hidden_layers + 1
            self.layer_weights = self.add_weight(shape=(count,), initializer=Constant(1 / count), name="layer_weights")
        self.projector = linear(config, config.classifier_proj_size)
        self.classifier = linear(config, config.num_labels)

    def call(self, input_values: Any, attention_mask: Any = None, *, labels: Any = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        wanted = self._chosen("output_hidden_states", options.get("output_hidden_states"))
        mixes = self.layer_weights is not None
        output = self._encode(input_values, attention_mask, options, output_hidden_states=wanted or mixes)
        x = output.last_hidden_state
        if mixes:
            shares = ops.unstack(ops.softmax(ops.cast(self.layer_weights, x.dtype)), self.config.num_hidden_layers + 1)
            x = sum(share * states for share, states in zip(shares, output.hidden_states, strict=True))
        output.hidden_states = output.hidden_states if wanted else None
        x = self.projector(x)  # (batch, frames, classifier_proj_size)
        counts, real = self._locate(attention_mask, x)
        mean = ops.sum(fill_padding(x, real), axis=1) / ops.cast(ops.maximum(counts, 1), x.dtype)[:, None]
        logits, kind = self.classifier(mean), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(SequenceClassifierOutput, output, options, loss, logits)
