"""Whisper (Radford et al. 2022): an encoder that hears a window of speech, and a decoder that writes it down.

The blocks are in `layers`, what `generate` does in `generation`. Modules have the names that published checkpoints use.
*Places* stands for the leading axes of a tensor: `(tokens,)` where padding is left out of the computation, `(batch,
length)` where it is not; `maquette.modeling.packing` tells more.
"""

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu

from maquette import PreTrainedModel, SequenceClassifierOutput
from maquette.modeling.compatibility.outputs import CausalLMOutputWithCrossAttentions
from maquette.modeling.cross_attention import Source
from maquette.modeling.decoders import CausalLMHead, check_positions
from maquette.modeling.encoder_decoder_blocks import choose_layers
from maquette.modeling.encoder_decoders import (
    DecoderStack,
    EncoderDecoder,
    EncoderStack,
    Seq2SeqLMHead,
    as_encoder_output,
    compute_place_loss,
    run_blocks,
)
from maquette.modeling.losses import compute_classification_loss
from maquette.modeling.packing import Layout, is_traced
from maquette.modeling.spans import compute_mask_indices

from .configuration import WhisperConfig
from .generation import WhisperGenerationMixin
from .layers import WhisperDecoderLayer, WhisperEncoderLayer, WhisperPositions

Opt = Tensor | None


class WhisperPreTrainedModel(PreTrainedModel):
    """What all Whisper models share. Heads take the arguments of `WhisperModel`, and labels."""

    base_model: Any
    config_class = WhisperConfig
    base_model_prefix = "model"
    main_input_name = "input_features"
    supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any
    _no_split_modules = ("WhisperEncoderLayer", "WhisperDecoderLayer")
    _skip_keys_device_placement = ("past_key_values",)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, WhisperPositions):
            module.fill()
        elif isinstance(module, nn.Linear | nn.Embedding | nn.Conv1d):
            nn.init.normal_(module.weight, std=self.config.init_std)
        if isinstance(module, nn.Linear | nn.Conv1d) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    def freeze_encoder(self: Any) -> None:
        """Keep the encoder as it is while the rest is trained."""
        self.get_encoder().requires_grad_(False)

    def _get_feat_extract_output_lengths(self, input_lengths: Any) -> Any:
        """Give how many states come of some frames, a number or a tensor."""
        return (input_lengths - 1) // 2 + 1

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        size = 2 * self.config.num_mel_bins * self.config.window
        waves = torch.sin(torch.arange(size) * 0.37).view(2, self.config.num_mel_bins, -1)
        return {"input_features": waves, "decoder_input_ids": torch.tensor([[2, 6, 4], [2, 8, 9]])}


class _WhisperStack(WhisperPreTrainedModel):
    layers: nn.ModuleList
    layer_norm: nn.LayerNorm
    layerdrop: float

    def _run(self, x: Tensor, layout: Layout, source: Source | None, *, keep_states: bool) -> Any:
        x = dropout(x, self.config.dropout, self.training)
        layers = choose_layers(self.layers, self.layerdrop * self.training)
        x, states = run_blocks(self, layers, x, layout, source, keep_states=keep_states)
        x = self.layer_norm(x)
        return x, [*states[:-1], x] if states else states  # the last of all states is the normed one


class WhisperEncoder(EncoderStack, _WhisperStack):  # type: ignore[misc]
    """Hears a window of speech; padding within it is silence, and no place is left out."""

    main_input_name = "input_features"  # type: ignore[misc]

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.conv1 = nn.Conv1d(config.num_mel_bins, config.d_model, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, kernel_size=3, stride=2, padding=1)
        self.embed_positions = WhisperPositions(config)
        self.layers = nn.ModuleList(WhisperEncoderLayer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)
        self.layerdrop = config.encoder_layerdrop
        self.gradient_checkpointing = False

    def get_input_embeddings(self) -> nn.Module:
        return self.conv1

    def set_input_embeddings(self, value: Any) -> None:
        self.conv1 = value

    def forward(  # type: ignore[override]
        self, input_features: Opt = None, attention_mask: Opt = None, **options: Any
    ) -> Any:
        """Give states, `last_hidden_state` of shape `(batch, frames / 2, d_model)`, and what is asked for besides.

        Args:
            input_features: `(batch, num_mel_bins, frames)`, a window each.
            attention_mask: taken, and without effect: Whisper hears silence as such.
            options: `output_attentions`, `output_hidden_states`, `return_dict`, as in other encoders.

        Raises:
            ValueError: features that are no window of this model's.
        """
        if input_features is None:
            raise ValueError("The encoder has nothing to hear: give input_features, or encoder_outputs.")
        self.config.check_features(input_features.shape)
        options.pop("inputs_embeds", None)
        if self._can_split(input_features, options):  # what a window takes stays in the processor's caches
            parts = [self._hear(window, return_dict=True) for window in input_features.split(1)]
            output = type(parts[0])(last_hidden_state=torch.cat([part.last_hidden_state for part in parts]))
            return output if self._chosen("return_dict", options.get("return_dict")) else output.to_tuple()
        return self._hear(input_features, **options)

    def _hear(self, features: Tensor, **options: Any) -> Any:
        x = gelu(self.conv2(gelu(self.conv1(features)))).mT  # (batch, places, d_model)
        return super().forward(inputs_embeds=x, **options)

    def _can_split(self, features: Tensor, options: dict[str, Any]) -> bool:
        """Tell whether windows can be heard one after the other with nobody noticing: nothing is learnt, or watched."""
        if self.training or torch.is_grad_enabled() or features.device.type != "cpu" or is_traced(features):
            return False
        watched = ("output_attentions", "output_hidden_states")
        if options.get("as_laid_out") or any(self._chosen(name, options.get(name)) for name in watched):
            return False
        hooked = any(module._forward_hooks or module._forward_pre_hooks for module in self.modules())
        return not hooked and len(features) > 1

    def _read(self, inputs: Tensor, layout: Layout, source: Source | None, *, keep_states: bool) -> Any:
        return self._run(layout.gather(inputs) + self.embed_positions.weight, layout, None, keep_states=keep_states)


class WhisperDecoder(DecoderStack, _WhisperStack):
    """Reads from left to right, and looks at what the encoder heard."""

    main_input_name = "input_ids"

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.embed_tokens: Any = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        self.embed_positions = nn.Embedding(config.max_target_positions, config.d_model)
        self.layers = nn.ModuleList(WhisperDecoderLayer(config) for _ in range(config.decoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)
        self.layerdrop = config.decoder_layerdrop
        self.gradient_checkpointing = False

    def _read(self, inputs: Tensor, layout: Layout, source: Source | None, *, keep_states: bool) -> Any:
        check_positions(layout, self.config.max_target_positions)
        x = layout.gather(inputs)
        x = (x if x.is_floating_point() else self.embed_tokens(x)) + self.embed_positions(layout.positions(x.device))
        return self._run(x, layout, source, keep_states=keep_states)


class WhisperModel(EncoderDecoder, WhisperPreTrainedModel):
    """Turns a window of speech into states, and a text into states that know it."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.encoder = WhisperEncoder(config)
        self.decoder = WhisperDecoder(config)

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.decoder.embed_tokens = value

    def forward(  # type: ignore[override]
        self, input_features: Opt = None, attention_mask: Opt = None, **options: Any
    ) -> Any:
        """Compute the decoder's states, `last_hidden_state` of shape `(batch, length, d_model)`, and the encoder's.

        Args:
            input_features: `(batch, num_mel_bins, frames)`, a window each.
            attention_mask: `(batch, frames)`, 0 at padding; counts only where spans are hidden in training.
            options: as in other models with an encoder: `decoder_input_ids`, `encoder_outputs`, …
        """
        if input_features is not None:
            input_features = self._hide(input_features, attention_mask)
        return super().forward(input_features, None, **options)

    def _hide(self, features: Tensor, mask: Opt) -> Tensor:
        """Hide spans of frames and of bands in training (Park et al. 2019)."""
        config, (rows, bands, frames) = self.config, features.shape
        if not (config.apply_spec_augment and self.training):
            return features
        for name, length, axis in (("time", frames, 1), ("feature", bands, 2)):
            share, width, least = (getattr(config, f"mask_{name}_{kind}") for kind in ("prob", "length", "min_masks"))
            if share > 0:
                more: dict[str, Any] = {"attention_mask": mask if name == "time" else None, "device": features.device}
                hidden = compute_mask_indices((rows, length), share, mask_length=width, min_masks=least, **more)
                features = features.masked_fill(hidden.unsqueeze(axis), 0)
        return features


class _ProjOut:
    """Calls the layer that scores the vocabulary as checkpoints do."""

    proj_out: nn.Linear

    def get_output_embeddings(self) -> Any:
        return self.proj_out

    def set_output_embeddings(self, value: Any) -> None:
        self.proj_out = value

    def _score_vocabulary(self, x: Tensor) -> Tensor:
        return self.proj_out(x)


class WhisperForConditionalGeneration(  # type: ignore[misc]
    WhisperGenerationMixin, _ProjOut, Seq2SeqLMHead, WhisperPreTrainedModel
):
    """Writes down what is said, or what that means in English."""

    _tied_weights_keys = {"proj_out.weight": "model.decoder.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.model = WhisperModel(config)
        self.proj_out = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(  # type: ignore[override]
        self, input_features: Opt = None, attention_mask: Opt = None, **options: Any
    ) -> Any:
        """Give logits `(batch, length, vocab_size)`, and a loss where there are `labels`, as other models do."""
        return super().forward(input_features, attention_mask, **options)


class WhisperDecoderWrapper(WhisperPreTrainedModel):
    """The decoder under the name that it has in whole models, so that their weights fill it."""

    main_input_name = "input_ids"

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.decoder = WhisperDecoder(config)

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.decoder.embed_tokens = value

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.decoder(*args, **options)


class WhisperForCausalLM(_ProjOut, CausalLMHead, WhisperPreTrainedModel):
    """The decoder alone: scores the vocabulary for every next token. Labels are not moved: each is what follows."""

    main_input_name = "input_ids"
    _tied_weights_keys = {"proj_out.weight": "model.decoder.embed_tokens.weight"}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected: ClassVar[tuple[str, ...]] = (r"^model\.encoder\.",)

    def __init__(self, config: WhisperConfig) -> None:
        config = copy.deepcopy(config)
        config.is_encoder_decoder = False
        super().__init__(config)
        self.model = WhisperDecoderWrapper(config)
        self.proj_out = nn.Linear(config.d_model, config.vocab_size, bias=False)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        states = torch.linspace(-1, 1, 2 * 3 * self.config.d_model).view(2, 3, -1)
        return {"input_ids": super().dummy_inputs["decoder_input_ids"], "encoder_outputs": states}

    def forward(
        self, input_ids: Opt = None, attention_mask: Opt = None, *, encoder_outputs: Any = None, **options: Any
    ) -> Any:
        """Give logits `(batch, length, vocab_size)`; `encoder_outputs` is what an encoder gave, or its states."""
        if encoder_outputs is not None:
            options["encoder_hidden_states"] = as_encoder_output(encoder_outputs)["last_hidden_state"]
        return super().forward(input_ids, attention_mask, **options)

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        return self.model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})

    def _compute_loss(self, logits: Tensor, labels: Tensor, layout: Layout, *, num_items: Any) -> Tensor:
        return compute_place_loss(logits, labels, layout, num_items=num_items)

    def _make_causal_output(self, output: Any, options: dict[str, Any], loss: Any, logits: Tensor) -> Any:
        return self._make_output(CausalLMOutputWithCrossAttentions, output, options, loss, logits)


class WhisperForAudioClassification(WhisperPreTrainedModel):
    """Tells which class a sound is of, from the mean of the encoder's states."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.encoder = WhisperEncoder(config)
        if config.use_weighted_layer_sum:
            self.layer_weights = nn.Parameter(torch.full((config.encoder_layers + 1,), 1 / (config.encoder_layers + 1)))
        self.projector = nn.Linear(config.d_model, config.classifier_proj_size)
        self.classifier = nn.Linear(config.classifier_proj_size, config.num_labels)

    def get_encoder(self) -> Any:
        return self.encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        self.encoder.set_input_embeddings(value)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_features": super().dummy_inputs["input_features"]}

    def forward(
        self, input_features: Opt = None, *, encoder_outputs: Any = None, labels: Opt = None, **options: Any
    ) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        mixes = self.config.use_weighted_layer_sum
        if encoder_outputs is None:
            wanted = mixes or self._chosen("output_hidden_states", options.get("output_hidden_states"))
            more = {**options, "output_hidden_states": wanted, "return_dict": True}
            encoder_outputs = self.encoder(input_features, **more)
        output = as_encoder_output(encoder_outputs)
        x = output["last_hidden_state"]
        if mixes:
            shares = self.layer_weights.softmax(0)
            x = sum(share * states for share, states in zip(shares, output["hidden_states"], strict=True))
        logits = self.classifier(self.projector(x).mean(1))
        kind = self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(SequenceClassifierOutput, output, options, loss, logits)
