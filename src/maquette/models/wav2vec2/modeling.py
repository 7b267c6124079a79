"""Wav2Vec2 (Baevski et al. 2020): convolutions hear frames in a sound, a transformer makes sense of them.

The layers are in `encoder`, what is masked in `masking`, the model that learns without labels in `pretraining`.

Modules have the names that published checkpoints use. A *frame* is what the convolutions make of a stretch of samples.
*Places* stands for the leading axes of a tensor: `(frames,)` of the whole batch where padding is left out of the
computation, `(batch, frames)` where it is not; `maquette.modeling.packing` tells more.
"""

from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, ctc_loss, normalize, one_hot, relu

from maquette import (
    CausalLMOutput,
    PreTrainedModel,
    SequenceClassifierOutput,
    TokenClassifierOutput,
    Wav2Vec2BaseModelOutput,
    XVectorOutput,
)
from maquette.hub.sources import open_source
from maquette.modeling.losses import compute_classification_loss, compute_token_loss
from maquette.modeling.packing import Layout, is_traced, lay_out

from .configuration import Wav2Vec2Config
from .encoder import Adapter, Encoder, FeatureEncoder, FeatureProjection, NormedConv
from .frames import (
    check_clips,
    check_hidden,
    check_letters,
    check_waves,
    count_frames,
    count_letters,
    hides_frames,
    make_waves,
    refuse_adapter,
)
from .languages import check_adapter, find_adapter
from .masking import compute_mask_indices

Opt = Tensor | None


class Wav2Vec2PreTrainedModel(PreTrainedModel):
    """What all Wav2Vec2 models share. Heads take the arguments of `Wav2Vec2Model`, and labels.

    Padding is not real: outputs there are zeros, labels there are ignored, and means are of real frames. A clip may lie
    anywhere in its row; its frames are the first ones of its row in every output. Only with
    `feat_extract_norm="group"`, whose norm looks at whole rows, does what pads a row change the clip's own frames.
    """

    base_model: Any
    config_class = Wav2Vec2Config
    base_model_prefix = "wav2vec2"
    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _keys_to_ignore_on_load_missing = (r"masked_spec_embed$",)  # many fine-tuned checkpoints were saved without it

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -(bound := module.weight[0].numel() ** -0.5), bound)
        elif isinstance(module, NormedConv):
            weight = module.parametrizations.weight
            nn.init.normal_(weight.original1, std=weight.std)
            nn.init.constant_(
                weight.original0, weight.std * weight.original1[..., 0].numel() ** 0.5
            )  # their usual norm
            nn.init.zeros_(module.bias)
        elif isinstance(module, FeatureProjection):
            for parameter in module.projection.parameters():
                nn.init.uniform_(parameter, -(bound := module.projection.in_features**-0.5), bound)
        elif isinstance(module, AMSoftmaxLoss):
            nn.init.normal_(module.weight)

    def freeze_feature_encoder(self) -> None:
        """Keep the convolutions that hear as they are while the rest is trained."""
        self.base_model.feature_extractor.requires_grad_(False)

    def freeze_base_model(self) -> None:
        """Keep all but the head as it is."""
        self.base_model.requires_grad_(False)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_values": torch.from_numpy(make_waves(self.config))}

    def _get_feat_extract_output_lengths(self, input_lengths: Any, add_adapter: bool | None = None) -> Any:
        """Give how many frames come out for some samples, a number or a tensor."""
        adapted = self.config.add_adapter if add_adapter is None else add_adapter
        return count_frames(input_lengths, self.config, adapted=adapted)

    def _encode(self, input_values: Tensor, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run the base model for a head; where the head mixes layers, `last_hidden_state` is the mixture."""
        weights = getattr(self, "layer_weights", None)
        wanted = self._chosen("output_hidden_states", options.get("output_hidden_states"))
        options = {**options, "output_hidden_states": wanted or weights is not None}
        output = self.base_model(input_values, attention_mask, **{**options, "return_dict": True, "as_laid_out": True})
        if weights is not None:
            shares = zip(weights.softmax(0), output.hidden_states, strict=True)
            output.last_hidden_state = output.layout.gather(sum(share * states for share, states in shares))
        output.hidden_states = output.hidden_states if wanted else None
        return output


class Wav2Vec2Model(Wav2Vec2PreTrainedModel):
    """Turns sounds into states, one vector per frame."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.feature_extractor = FeatureEncoder(config)
        self.feature_projection = FeatureProjection(config)
        if hides_frames(config):
            self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size).uniform_())
        self.encoder = Encoder(config)
        self.adapter = Adapter(config, config.output_hidden_size or config.hidden_size) if config.add_adapter else None

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Opt = None,
        *,
        mask_time_indices: Opt = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, frames, hidden_size)`, and features.

        Args:
            input_values: `(batch, samples)`.
            attention_mask: `(batch, samples)`, 0 at padding; unless given, all samples are real.
            mask_time_indices: `(batch, frames)`, True at frames that `masked_spec_embed` hides; unless given, some are
                hidden while training, as the configuration says.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            as_laid_out: give states and features as `(places, …)` with their `layout`, for heads.

        Raises:
            ValueError: another shape, a clip too short to make a frame, or one that has padding inside.
        """
        waves, samples = self._align(input_values, attention_mask)
        frames = count_frames(waves.shape[1], self.config)
        mask = None if samples is None else count_frames(samples, self.config)[:, None]
        mask = None if mask is None else torch.arange(frames, device=waves.device) < mask  # (batch, frames)
        keep_weights = self._chosen("output_attentions", output_attentions)
        explicit = self.config.attn_implementation == "eager"
        layout = lay_out(waves[:, :frames], mask, explicit=explicit, keep_weights=keep_weights)
        features = self.feature_extractor(waves, layout.mask if layout.is_packed else None)
        x, features = self.feature_projection(layout.gather(features))  # (places, width), (places, channels)
        x = self._hide(x, layout, mask_time_indices)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        x, states = self.encoder(x, layout, keep_states=keep_states)
        x, own = (x, layout) if self.adapter is None else self.adapter(x, layout)
        output = Wav2Vec2BaseModelOutput(
            last_hidden_state=x if as_laid_out else own.scatter(x),
            extract_features=features if as_laid_out else layout.scatter(features),
            hidden_states=tuple(layout.scatter(state) for state in states) or None,
            attentions=tuple(layout.weights) if layout.weights else None,
        )
        if as_laid_out:
            output["layout"] = own
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()

    def _align(self, waves: Tensor, mask: Opt) -> tuple[Tensor, Opt]:
        """Have every clip begin at the first sample of its row; give the samples, and how many each clip has."""
        shape = tuple(waves.shape)
        if mask is not None and mask.ndim == 2 and mask.shape[0] == 1:
            mask = mask.expand(shape[0], -1)  # one for all rows
        check_waves(shape, waves.dtype, self.config, mask=None if mask is None else tuple(mask.shape))
        if mask is None:
            return waves, None
        mask = mask.bool()
        counts, starts = mask.sum(1), mask.int().argmax(1)
        if not is_traced(mask):
            runs = mask[:, 0].int() + (mask[:, 1:] & ~mask[:, :-1]).sum(1)
            check_clips(counts.tolist(), runs.tolist(), self.config)
            if not starts.any():
                return waves, counts
        places = (torch.arange(shape[1], device=waves.device) + starts[:, None]) % shape[1]
        return waves.gather(1, places), counts

    def _hide(self, x: Tensor, layout: Layout, mask: Opt) -> Tensor:
        """Mask frames, and channels of whole clips (Park et al. 2019)."""
        config = self.config
        if not config.apply_spec_augment:
            return x
        if mask is not None:
            check_hidden(tuple(mask.shape), layout.shape, config)
        if mask is None and self.training and config.mask_time_prob > 0:
            spans: dict[str, Any] = {"mask_length": config.mask_time_length, "min_masks": config.mask_time_min_masks}
            real: dict[str, Any] = {"attention_mask": layout.mask, "device": x.device}
            mask = compute_mask_indices(layout.shape, config.mask_time_prob, **spans, **real)
        if mask is not None:
            x = torch.where(layout.gather(mask.bool())[..., None], self.masked_spec_embed.to(x.dtype), x)
        if self.training and config.mask_feature_prob > 0:
            spans = {"mask_length": config.mask_feature_length, "min_masks": config.mask_feature_min_masks}
            shape = (layout.shape[0], config.hidden_size)
            hidden = compute_mask_indices(shape, config.mask_feature_prob, **spans, device=x.device)
            x = x.masked_fill(layout.gather(hidden[:, None].expand(-1, layout.shape[1], -1)), 0.0)
        return x


def _equal_shares(config: Wav2Vec2Config) -> nn.Parameter | None:
    """Make the weights by which a head mixes layers, where it does."""
    count = config.num_hidden_layers + 1
    return nn.Parameter(torch.full((count,), 1 / count)) if config.use_weighted_layer_sum else None


class Wav2Vec2ForCTC(Wav2Vec2PreTrainedModel):
    """Writes down what was said (Graves et al. 2006)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        letters = count_letters(config)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout = nn.Dropout(config.final_dropout)
        width = config.output_hidden_size if config.add_adapter else config.hidden_size
        self.lm_head = nn.Linear(width or config.hidden_size, letters)
        self.target_lang: str | None = None

    def forward(self, input_values: Tensor, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, frames, vocab_size)`; `labels` are `(batch, length)`, of which -100 is left out."""
        output = self._encode(input_values, attention_mask, options)
        logits = output.layout.scatter(self.lm_head(self.dropout(output.last_hidden_state)))
        loss = None if labels is None else self._compute_loss(logits, labels, output.layout.mask)
        return self._make_output(CausalLMOutput, output, options, loss, logits)

    def _compute_loss(self, logits: Tensor, labels: Tensor, mask: Opt) -> Tensor:
        blank, known = self.config.pad_token_id, [] if is_traced(labels) else labels[labels != -100].tolist()
        check_letters(tuple(labels.shape), len(logits), known, self.config)
        written = (labels >= 0) & (labels != blank)
        frames = torch.full((len(logits),), logits.shape[1]) if mask is None else mask.sum(1)
        return ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1),  # (frames, batch, vocab_size)
            labels[written],
            frames,
            written.sum(1),
            blank=blank,
            reduction=self.config.ctc_loss_reduction,
            zero_infinity=self.config.ctc_zero_infinity,
        )

    # Languages -------------------------------------------------------------------------------------------------

    @classmethod
    def from_source(cls, source: Any, *model_args: Any, target_lang: str | None = None, **kwargs: Any) -> Any:
        """Do the work of `from_pretrained`; `target_lang` names an adapter of the same source to load as well."""
        loaded = super().from_source(source, *model_args, **kwargs)
        if target_lang is not None:
            (loaded[0] if isinstance(loaded, tuple) else loaded)._take_adapter(source, target_lang)
        return loaded

    def load_adapter(self, target_lang: str, **options: Any) -> None:  # type: ignore[override]  # languages, as Transformers has it
        """Have the model write another language (Pratap et al. 2023): read `adapter.<target_lang>.safetensors`.

        Args:
            target_lang: a language that there is a file for, beside the weights that the model was loaded from.
            options: `revision`, `subfolder`, `token`, … for where to read from.

        Raises:
            ConfigurationError: the model has no `adapter_attn_dim`.
            MissingFileError, CheckpointError: there is no such file, or it does not fit.
        """
        with open_source(self.config.name_or_path, **options) as source:
            self._take_adapter(source, target_lang)

    def _take_adapter(self, source: Any, language: str) -> None:
        path = find_adapter(source, language, self.config)
        weights = load_file(path)
        check_adapter(weights, self.state_dict(), name=path.name, label=source.label)
        size, old = len(weights["lm_head.weight"]), self.lm_head
        if size != old.out_features:
            self.lm_head = nn.Linear(old.in_features, size, device=self.device, dtype=self.dtype).train(self.training)
            self.config.vocab_size = self.base_model.config.vocab_size = size
        self.load_state_dict(weights, strict=False)
        self.target_lang = language

    def init_adapter_layers(self) -> None:
        """Begin a new language: initialise its adapters and the head anew."""
        for name, module in self.named_modules():
            if name == "lm_head" or ".adapter_layer." in name:
                self._init_weights(module)
                if isinstance(module, nn.LayerNorm):
                    module.reset_parameters()


class Wav2Vec2ForSequenceClassification(Wav2Vec2PreTrainedModel):
    """Tells which class, or classes, a clip is of, or the numbers that belong to it."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        refuse_adapter(self)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.layer_weights = _equal_shares(config)
        self.projector = nn.Linear(config.hidden_size, config.classifier_proj_size)
        self.classifier = nn.Linear(config.classifier_proj_size, config.num_labels)

    def forward(self, input_values: Tensor, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self._encode(input_values, attention_mask, options)
        x, mask = output.layout.scatter(self.projector(output.last_hidden_state)), output.layout.mask
        counts = x.shape[1] if mask is None else mask.sum(1, keepdim=True).clamp(min=1)
        logits, kind = self.classifier(x.sum(1) / counts), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(SequenceClassifierOutput, output, options, loss, logits)


class Wav2Vec2ForAudioFrameClassification(Wav2Vec2PreTrainedModel):
    """Tells of every frame which class it is of: who speaks when, say."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        refuse_adapter(self)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.layer_weights = _equal_shares(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_values: Tensor, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, frames, num_labels)`.

        The loss of `labels`, classes `(batch, frames)`, leaves out -100; a row of scores for each frame,
        `(batch, frames, num_labels)`, stands for the class with the highest.
        """
        output = self._encode(input_values, attention_mask, options)
        logits, loss = self.classifier(output.last_hidden_state), None  # (places, num_labels)
        if labels is not None:
            classes = labels.argmax(-1) if labels.ndim == 3 else labels
            loss = compute_token_loss(logits, output.layout.gather(classes, fill=-100))
        return self._make_output(TokenClassifierOutput, output, options, loss, output.layout.scatter(logits))


class AMSoftmaxLoss(nn.Module):
    """Has voices differ by an angle, with a margin (Wang et al. 2018, equation 6)."""

    def __init__(self, width: int, classes: int, *, scale: float = 30.0, margin: float = 0.4) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(torch.empty(width, classes))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        labels, classes = labels.flatten(), self.weight.shape[1]
        if not is_traced(labels) and torch.any((labels < 0) | (labels >= classes)):
            raise ValueError(f"labels are from 0 to {classes - 1}: {labels.min()} to {labels.max()} were given.")
        cosines = normalize(x, dim=1) @ normalize(self.weight, dim=0)  # (batch, classes)
        return cross_entropy(self.scale * (cosines - self.margin * one_hot(labels, classes)), labels)


class TDNNLayer(nn.Module):
    """A dilated convolution; its kernel is kept as a linear layer's weight."""

    def __init__(self, config: Wav2Vec2Config, number: int) -> None:
        super().__init__()
        self.size, self.dilation = config.tdnn_kernel[number], config.tdnn_dilation[number]
        self.kernel = nn.Linear(config.tdnn_dim[max(number - 1, 0)] * self.size, config.tdnn_dim[number])

    def forward(self, x: Tensor) -> Tensor:
        """Compute `(batch, fewer frames, out)` of `(batch, frames, in)`."""
        rows = x.unfold(1, (self.size - 1) * self.dilation + 1, 1)[..., :: self.dilation]  # (batch, fewer, in, size)
        return relu(self.kernel(rows.transpose(-1, -2).flatten(-2)))


def pool_statistics(x: Tensor, mask: Tensor) -> Tensor:
    """Give means and deviations over real frames, `(batch, 2 * channels)`, of `(batch, channels, frames)`."""
    mask = mask[:, None].to(x.dtype)
    counts = mask.sum(2)
    mean = (x * mask).sum(2) / counts.clamp(min=1)
    variance = ((x - mean[..., None]) * mask).square().sum(2) / (counts - 1).clamp(min=1)
    safe = variance.masked_fill(variance == 0, 1)  # the root has no gradient at zero
    return torch.cat([mean, safe.sqrt().masked_fill(variance == 0, 0)], dim=1)


class Wav2Vec2ForXVector(Wav2Vec2PreTrainedModel):
    """Gives a voice a vector, to tell speakers apart (Snyder et al. 2018)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        refuse_adapter(self)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.layer_weights = _equal_shares(config)
        self.projector = nn.Linear(config.hidden_size, config.tdnn_dim[0])
        self.tdnn = nn.ModuleList(TDNNLayer(config, number) for number in range(len(config.tdnn_dim)))
        self.lost_frames = sum((n - 1) * d for n, d in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True))
        self.feature_extractor = nn.Linear(config.tdnn_dim[-1] * 2, config.xvector_output_dim)
        self.classifier = nn.Linear(config.xvector_output_dim, config.xvector_output_dim)
        self.objective = AMSoftmaxLoss(config.xvector_output_dim, config.num_labels)

    def forward(self, input_values: Tensor, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give `embeddings` and `logits`, `(batch, xvector_output_dim)`; `labels`, `(batch,)`, name speakers.

        Raises:
            ValueError: a clip has fewer frames than the layers see at once.
        """
        output = self._encode(input_values, attention_mask, options)
        layout, lost = output.layout, self.lost_frames
        real = torch.ones(layout.shape, device=input_values.device) if layout.mask is None else layout.mask
        counts = real.sum(1)
        if layout.shape[1] <= lost or (not is_traced(counts) and torch.any((counts > 0) & (counts <= lost))):
            raise ValueError(
                f"A voice needs {lost + 1} frames; the clips have {counts.int().tolist()}. Drop short ones."
            )
        x = layout.scatter(self.projector(output.last_hidden_state))
        for layer in self.tdnn:
            x = layer(x)  # (batch, fewer frames, channels)
        embeddings = self.feature_extractor(pool_statistics(x.transpose(1, 2), real[:, lost:].bool()))
        logits = self.classifier(embeddings)
        loss = None if labels is None else self.objective(logits, labels)
        return self._make_output(XVectorOutput, output, options, loss, logits, embeddings)
