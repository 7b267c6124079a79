"""BART (Lewis et al. 2020): an encoder that reads a text in both directions, and a decoder that writes another.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor: `(tokens,)`
where padding is left out of the computation, `(batch, length)` where it is not; `maquette.modeling.packing` tells more.
"""

import copy
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from maquette import PreTrainedModel
from maquette.modeling.compatibility.outputs import CausalLMOutputWithCrossAttentions
from maquette.modeling.cross_attention import Source
from maquette.modeling.decoders import CausalLMHead, check_positions
from maquette.modeling.embeddings import resize_rows
from maquette.modeling.encoder_decoder_blocks import EncoderDecoderBlock, choose_layers, keep_finite
from maquette.modeling.encoder_decoders import (
    ClassificationHead,
    DecoderStack,
    EncoderDecoder,
    EncoderStack,
    Seq2SeqClassificationHead,
    Seq2SeqLMHead,
    Seq2SeqQuestionAnsweringHead,
    compute_place_loss,
    run_blocks,
)
from maquette.modeling.packing import Layout

from .configuration import BartConfig

Opt = Tensor | None


class BartScaledWordEmbedding(nn.Embedding):
    """Vectors of tokens, multiplied by a number."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config.vocab_size, config.d_model, config.pad_token_id)
        self.embed_scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0

    def forward(self, input_ids: Tensor) -> Tensor:
        x = super().forward(input_ids)
        return x if self.embed_scale == 1.0 else x * self.embed_scale


class BartLearnedPositionalEmbedding(nn.Embedding):
    """Vectors of positions; the first two rows stand for none, as in fairseq's files."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config.max_position_embeddings + 2, config.d_model)

    def forward(self, positions: Tensor) -> Tensor:
        return super().forward(positions + 2)


class BartEncoderLayer(EncoderDecoderBlock):
    """Attention, then the feed-forward network; what they find is added and normed."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config, config.encoder_attention_heads, config.encoder_ffn_dim, causal=False)

    def forward(self, x: Tensor, layout: Layout, source: Source | None = None) -> Tensor:
        x = self.self_attn_layer_norm(self._add(x, self.self_attn(x, layout)))  # (places, d_model)
        return keep_finite(self.final_layer_norm(self._add(x, self._transform(x))))


class BartDecoderLayer(EncoderDecoderBlock):
    """As in the encoder, with attention to what that read in between."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config, config.decoder_attention_heads, config.decoder_ffn_dim, causal=True, looks=True)

    def forward(self, x: Tensor, layout: Layout, source: Source | None = None) -> Tensor:
        x = self.self_attn_layer_norm(self._add(x, self.self_attn(x, layout)))  # (places, d_model)
        if source is not None:
            x = self.encoder_attn_layer_norm(self._add(x, self.encoder_attn(x, layout, source)))
        return self.final_layer_norm(self._add(x, self._transform(x)))


class BartPreTrainedModel(PreTrainedModel):
    """What all BART models share. Heads take the arguments of `BartModel`, and labels."""

    base_model: Any
    config_class = BartConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any
    _no_split_modules = ("BartEncoderLayer", "BartDecoderLayer")
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected: ClassVar[tuple[str, ...]] = (r"encoder\.version", r"decoder\.version")

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.init_std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    @classmethod
    def _read_weights(cls, model: Any, checkpoint: Any) -> dict[str, Tensor]:
        weights = super()._read_weights(model, checkpoint)
        for start in ("", "model.") * (not model.config.tie_word_embeddings):  # older files have them once, tied or not
            if (shared := weights.get(f"{start}shared.weight")) is not None:
                for stack in ("encoder", "decoder"):
                    weights.setdefault(f"{start}{stack}.embed_tokens.weight", shared.clone())
        return weights

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        ids = torch.tensor([[0, 6, 10, 4, 2], [0, 8, 12, 2, 1]]) % self.config.vocab_size
        mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
        return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids.roll(1, 1)}


class _BartStack(BartPreTrainedModel):
    layers: nn.ModuleList
    layerdrop: float

    def __init__(self, config: BartConfig, embed_tokens: BartScaledWordEmbedding) -> None:
        super().__init__(config)
        self.dropout = config.dropout
        self.embed_tokens: Any = embed_tokens
        self.embed_positions = BartLearnedPositionalEmbedding(config)
        self.layernorm_embedding = nn.LayerNorm(config.d_model)
        self.gradient_checkpointing = False

    def _read(self, inputs: Tensor, layout: Layout, source: Source | None, *, keep_states: bool) -> Any:
        check_positions(layout, self.config.max_position_embeddings)
        x = layout.gather(inputs)
        x = (x if x.is_floating_point() else self.embed_tokens(x)) + self.embed_positions(layout.positions(x.device))
        x = dropout(self.layernorm_embedding(x), self.dropout, self.training)  # (places, d_model)
        layers = choose_layers(self.layers, self.layerdrop * self.training)
        return run_blocks(self, layers, x, layout, source, keep_states=keep_states)


class BartEncoder(EncoderStack, _BartStack):
    """Reads a text in both directions; positions are places, padding counted."""

    counts_padding = True

    def __init__(self, config: BartConfig, embed_tokens: BartScaledWordEmbedding) -> None:
        super().__init__(config, embed_tokens)
        self.layers = nn.ModuleList(BartEncoderLayer(config) for _ in range(config.encoder_layers))
        self.layerdrop = config.encoder_layerdrop


class BartDecoder(DecoderStack, _BartStack):
    """Reads from left to right, and looks at what the encoder read."""

    def __init__(self, config: BartConfig, embed_tokens: BartScaledWordEmbedding) -> None:
        super().__init__(config, embed_tokens)
        self.layers = nn.ModuleList(BartDecoderLayer(config) for _ in range(config.decoder_layers))
        self.layerdrop = config.decoder_layerdrop


class BartModel(EncoderDecoder, BartPreTrainedModel):
    """Turns a text into states, and another into states that know it; unless given, the same, moved right."""

    shifts_inputs = True

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.shared = BartScaledWordEmbedding(config)
        own = not config.tie_word_embeddings  # then each stack has vectors of its own, as in Transformers
        self.encoder = BartEncoder(config, BartScaledWordEmbedding(config) if own else self.shared)
        self.decoder = BartDecoder(config, BartScaledWordEmbedding(config) if own else self.shared)

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the vectors that are shared; those that a stack has of its own get as many rows."""
        for stack in (self.encoder, self.decoder):
            if stack.embed_tokens is self.shared:
                stack.embed_tokens = value
            elif len(stack.embed_tokens.weight) != len(value.weight):
                stack.embed_tokens = resize_rows(self, stack.embed_tokens, len(value.weight))
        self.shared = value


class BartForConditionalGeneration(Seq2SeqLMHead, BartPreTrainedModel):
    """Scores the vocabulary for every next token of what follows from a text."""

    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}  # noqa: RUF012
    final_logits_bias: Tensor

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.model = BartModel(config)
        self.register_buffer("final_logits_bias", torch.zeros(1, config.vocab_size))
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def _score_vocabulary(self, x: Tensor) -> Tensor:
        return self.lm_head(x) + self.final_logits_bias[0].to(x.device)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, **options: Any) -> nn.Module:
        found = super().resize_token_embeddings(new_num_tokens, **options)
        old, size = self.final_logits_bias, self.config.vocab_size
        kept = old[:, :size]
        self.final_logits_bias = torch.cat([kept, old.new_zeros(1, size - kept.shape[1])], dim=1)
        return found


class BartForSequenceClassification(Seq2SeqClassificationHead, BartPreTrainedModel):
    """Tells which class, or classes, a text is of, from the decoder's state at its end."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.model = BartModel(config)
        self.classification_head = ClassificationHead(config.d_model, config.num_labels, config.classifier_dropout)


class BartForQuestionAnswering(Seq2SeqQuestionAnsweringHead, BartPreTrainedModel):
    """Finds where in a text the answer begins and ends."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.model = BartModel(config)
        self.qa_outputs = nn.Linear(config.d_model, 2)


class BartDecoderWrapper(BartPreTrainedModel):
    """The decoder under the name that it has in whole models, so that their weights fill it."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.decoder = BartDecoder(config, BartScaledWordEmbedding(config))

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.decoder.embed_tokens = value

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.decoder(*args, **options)


class BartForCausalLM(CausalLMHead, BartPreTrainedModel):
    """The decoder alone: scores the vocabulary for every next token. Labels are not moved: each is what follows."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected: ClassVar[tuple[str, ...]] = (
        r"^model\.encoder\.",
        r"^model\.shared\.",
        r"^final_logits_bias$",
    )

    def __init__(self, config: BartConfig) -> None:
        config = copy.deepcopy(config)
        config.is_decoder, config.is_encoder_decoder = True, False
        super().__init__(config)
        self.model = BartDecoderWrapper(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    @classmethod
    def _read_weights(cls, model: Any, checkpoint: Any) -> dict[str, Tensor]:
        weights = super()._read_weights(model, checkpoint)
        if (shared := weights.get("model.shared.weight")) is not None:  # a whole model's file has them once
            weights.setdefault("model.decoder.embed_tokens.weight", shared)
        return weights

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        states = torch.linspace(-1, 1, 2 * 3 * self.config.d_model).view(2, 3, -1)
        given = super().dummy_inputs
        return {"input_ids": given["input_ids"], "encoder_hidden_states": states}

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        return self.model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})

    def _compute_loss(self, logits: Tensor, labels: Tensor, layout: Layout, *, num_items: Any) -> Tensor:
        return compute_place_loss(logits, labels, layout, num_items=num_items)

    def _make_causal_output(self, output: Any, options: dict[str, Any], loss: Any, logits: Tensor) -> Any:
        return self._make_output(CausalLMOutputWithCrossAttentions, output, options, loss, logits)
