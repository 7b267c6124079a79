"""ModernBERT (Warner et al. 2024): an encoder of long texts, most of whose blocks see a token's neighbourhood only.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor: `(tokens,)`
where padding is left out of the computation, `(batch, length)` where it is not; `maquette.modeling.packing` tells more.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from maquette import (
    ACT2FN,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    PreTrainedModel,
    RotaryEmbedding,
    SequenceClassifierOutput,
)
from maquette.modeling.decoders import LaidOutDecoderOutput, QuestionAnsweringHead, TokenClassificationHead
from maquette.modeling.layers.rotary import Rotation, rotate
from maquette.modeling.losses import compute_classification_loss, compute_token_loss
from maquette.modeling.packing import Layout, attention, lay_out

from .configuration import ModernBertConfig

Opt = Tensor | None
HIDDEN = -3e4  # added to a score, leaves it no weight, in half precision too


def make_norm(config: ModernBertConfig) -> nn.LayerNorm:
    """Make one of the model's norms."""
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


class ModernBertEmbeddings(nn.Module):
    """Turns token ids, or vectors in their stead, into states."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.norm = make_norm(config)
        self.drop = nn.Dropout(config.embedding_dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.drop(self.norm(tokens if tokens.is_floating_point() else self.tok_embeddings(tokens)))


class ModernBertMLP(nn.Module):
    """Works on each token by itself, with a gate (Shazeer 2020)."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.Wi = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=config.mlp_bias)
        self.act = ACT2FN[config.hidden_activation]
        self.drop = nn.Dropout(config.mlp_dropout)
        self.Wo = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.Wi(x).chunk(2, dim=-1)
        return self.Wo(self.drop(self.act(x) * gate))


class ModernBertAttention(nn.Module):
    """Lets tokens look at the tokens of their own row, in most blocks at those near by only."""

    def __init__(self, config: ModernBertConfig, number: int) -> None:
        super().__init__()
        self.width, self.dropout = config.hidden_size // config.num_attention_heads, config.attention_dropout
        self.kind = (config.layer_types or ())[number]
        self.reach = config.reach  # to either side, in a sliding block
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.attention_bias)
        self.Wo = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)
        self.out_drop = nn.Dropout(config.attention_dropout)

    def _hide_far(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Give what is added to scores, `(rows, 1, queries, keys)`."""
        far = (queries[:, :, None] - keys[:, None]).abs() > self.reach
        return torch.zeros(far.shape, device=far.device).masked_fill(far, HIDDEN)[:, None]

    def forward(self, x: Tensor, layout: Layout, rotations: dict[str, Rotation]) -> Tensor:
        q, k, v = self.Wqkv(x).unflatten(-1, (3, -1, self.width)).unbind(-3)  # (places, heads, width)
        q, k = rotate(q, rotations[self.kind]), rotate(k, rotations[self.kind])
        is_near = self.kind == "full_attention" or layout.shape[1] <= self.reach + 1
        share = self.dropout if self.training else 0.0
        attended = attention(q, k, v, layout, bias=None if is_near else self._hide_far, dropout=share)
        return self.out_drop(self.Wo(attended.flatten(-2)))


class ModernBertEncoderLayer(nn.Module):
    """Attention, then the feed-forward network; each works on normed states and is added to what came in."""

    def __init__(self, config: ModernBertConfig, number: int) -> None:
        super().__init__()
        self.attn_norm = make_norm(config) if number else nn.Identity()  # embeddings are normed
        self.attn = ModernBertAttention(config, number)
        self.mlp_norm = make_norm(config)
        self.mlp = ModernBertMLP(config)

    def forward(self, x: Tensor, layout: Layout, rotations: dict[str, Rotation]) -> Tensor:
        x = x + self.attn(self.attn_norm(x), layout, rotations)  # (places, hidden_size)
        return x + self.mlp(self.mlp_norm(x))


class ModernBertPredictionHead(nn.Module):
    """Prepares states for a classifier or the vocabulary."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.classifier_bias)
        self.act = ACT2FN[config.classifier_activation]
        self.norm = make_norm(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.act(self.dense(x)))


class ModernBertPreTrainedModel(PreTrainedModel):
    """What all ModernBERT models share. Heads take the arguments of `ModernBertModel`, and labels.

    Padding is not real: outputs there are zeros, labels there are ignored, and a head that reads one token reads each
    row's first real one.
    """

    base_model: Any
    config_class = ModernBertConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any
    _no_split_modules = ("ModernBertEmbeddings", "ModernBertEncoderLayer")

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            self._draw(module, std)
        if isinstance(module, ModernBertMLP | ModernBertAttention):
            self._draw(module.Wo, std / math.sqrt(2 * self.config.num_hidden_layers))
        if isinstance(module, ModernBertPredictionHead):
            self._draw(module.dense, std / math.sqrt(2 * self.config.num_hidden_layers))
        if isinstance(module, ModernBertPreTrainedModel) and isinstance(
            last := getattr(module, "classifier", None), nn.Linear
        ):
            self._draw(last, self.config.hidden_size**-0.5)

    def _draw(self, layer: nn.Linear | nn.Embedding, std: float) -> None:
        most = self.config.initializer_cutoff_factor * std
        nn.init.trunc_normal_(layer.weight, std=std, a=-most, b=most)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)

    def _add_parts(self, outputs: int) -> None:
        """Add the base model and what a classifier needs around it."""
        self.model = ModernBertModel(self.config)
        self.head = ModernBertPredictionHead(self.config)
        self.drop = nn.Dropout(self.config.classifier_dropout)
        self.classifier = nn.Linear(self.config.hidden_size, outputs)

    def _classify(self, x: Tensor) -> Tensor:
        return self.classifier(self.drop(self.head(x)))

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run the base model for a head."""
        options = {name: value for name, value in options.items() if name != "use_cache"}
        return self.base_model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})

    def _pool(self, output: Any) -> Tensor:
        """Give one state per row, `(batch, hidden_size)`."""
        x, layout = output.last_hidden_state, output.layout
        if self.config.classifier_pooling == "cls":
            return layout.firsts().scatter(layout.take_firsts(x))[:, 0]
        counts = torch.tensor(layout.counts, device=x.device).clamp(min=1) if layout.mask is None else None
        if counts is None:
            counts = layout.mask.sum(1).clamp(min=1)
        return layout.scatter(x).sum(1) / counts[:, None].to(x.dtype)


class ModernBertModel(ModernBertPreTrainedModel):
    """Turns texts into states, one vector per token."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__(config)
        self.embeddings = ModernBertEmbeddings(config)
        self.layers = nn.ModuleList(ModernBertEncoderLayer(config, n) for n in range(config.num_hidden_layers))
        self.final_norm = make_norm(config)
        kinds = dict.fromkeys(config.layer_types or ())
        self.rotary_emb = nn.ModuleDict({kind: RotaryEmbedding.of(config, kind) for kind in kinds})
        self.gradient_checkpointing = False

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.tok_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.embeddings.tok_embeddings = value

    def forward(
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        position_ids: Opt = None,
        inputs_embeds: Opt = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, hidden_size)`, and what is asked for besides.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            position_ids: `(batch, length)` or `(1, length)`; unless given, places are counted from 0, padding too.
                Which tokens are near is told by their places.
            inputs_embeds: `(batch, length, hidden_size)`, vectors instead of `input_ids`.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            as_laid_out: give states as `(places, hidden_size)` with their `layout`, for heads.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, or a mask that does not fit.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        explicit = self.config.attn_implementation == "eager"
        inputs = self._choose_inputs(input_ids, inputs_embeds, width=self.config.hidden_size)
        layout = lay_out(inputs, attention_mask, explicit=explicit, keep_weights=keep_weights)
        x = self.embeddings(layout.gather(inputs))  # (places, hidden_size)
        positions = layout.positions(x.device) if position_ids is None else layout.gather(position_ids)
        rotations = {kind: turn(positions, dtype=x.dtype) for kind, turn in self.rotary_emb.items()}
        states, recompute = [x], self.gradient_checkpointing and self.training
        for layer in self.layers:
            inputs = (x, layout, rotations)
            x = self._gradient_checkpointing_func(layer, *inputs) if recompute else layer(*inputs)
            states = [*states, x] if keep_states else []
        x = self.final_norm(x)
        states = [*states[:-1], x] if keep_states else []
        output = LaidOutDecoderOutput(
            last_hidden_state=x if as_laid_out else layout.scatter(x),
            hidden_states=tuple(layout.scatter(state) for state in states) or None,
            attentions=tuple(layout.weights) if layout.weights else None,
            layout=layout if as_laid_out else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class ModernBertForMaskedLM(ModernBertPreTrainedModel):
    """Scores the vocabulary at every place, or with `config.sparse_prediction` at those that have a label."""

    _tied_weights_keys = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__(config)
        self.model = ModernBertModel(config)
        self.head = ModernBertPredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=config.decoder_bias)

    def get_output_embeddings(self) -> nn.Linear:
        return self.decoder

    def set_output_embeddings(self, value: Any) -> None:
        self.decoder = value

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, length, vocab_size)`, where they are sparse `(labels, vocab_size)`.

        The loss of `labels`, `(batch, length)`, leaves out -100, where logits are sparse `sparse_pred_ignore_index`.
        """
        output = self._run_base(input_ids, attention_mask, options)
        x, layout = output.last_hidden_state, output.layout
        if labels is not None and self.config.sparse_prediction:
            ignored = self.config.sparse_pred_ignore_index
            chosen = labels != ignored if layout.mask is None else (labels != ignored) & layout.mask
            logits = self.decoder(self.head(layout.scatter(x)[chosen]))
            return self._make_output(
                MaskedLMOutput, output, options, compute_token_loss(logits, labels[chosen]), logits
            )
        logits = self.decoder(self.head(x))  # (places, vocab_size)
        loss = None if labels is None else compute_token_loss(logits, layout.gather(labels, fill=-100))
        return self._make_output(MaskedLMOutput, output, options, loss, layout.scatter(logits))


class ModernBertForSequenceClassification(ModernBertPreTrainedModel):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__(config)
        self._add_parts(config.num_labels)

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self._run_base(input_ids, attention_mask, options)
        logits, kind = self._classify(self._pool(output)), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(SequenceClassifierOutput, output, options, loss, logits)


class ModernBertForMultipleChoice(ModernBertPreTrainedModel):
    """Tells which of several texts fits best; its inputs are `(batch, choices, length)`."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__(config)
        self._add_parts(1)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_ids": torch.arange(24).view(2, 3, 4) % self.config.vocab_size}

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, choices)`; `labels` are `(batch,)`."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **options}
        flat = {name: x.flatten(0, 1) if isinstance(x, Tensor) else x for name, x in given.items()}
        output = self._run_base(flat.pop("input_ids"), flat.pop("attention_mask"), flat)
        shape = next(x.shape for x in given.values() if isinstance(x, Tensor))
        logits = self._classify(self._pool(output)).view(shape[:2])
        loss = None if labels is None else compute_token_loss(logits, labels)
        return self._make_output(MultipleChoiceModelOutput, output, options, loss, logits)


class ModernBertForTokenClassification(TokenClassificationHead, ModernBertPreTrainedModel):
    """Tells of every token which class it is of."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__(config)
        self._add_parts(config.num_labels)

    def _score_tokens(self, x: Tensor) -> Tensor:
        return self._classify(x)


class ModernBertForQuestionAnswering(QuestionAnsweringHead, ModernBertPreTrainedModel):
    """Finds where in a text the answer begins and ends."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__(config)
        self._add_parts(2)

    def _score_spans(self, x: Tensor) -> Tensor:
        return self._classify(x)
