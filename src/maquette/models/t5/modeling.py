"""T5 (Raffel et al. 2020): an encoder and a decoder that know distances between tokens, and no positions.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor: `(tokens,)`
where padding is left out of the computation, `(batch, length)` where it is not; `maquette.modeling.packing` tells more.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maquette import ACT2FN, PreTrainedModel, RMSNorm, TokenClassifierOutput
from maquette.modeling.cross_attention import Source, cross_attention
from maquette.modeling.encoder_decoder_blocks import keep_finite
from maquette.modeling.encoder_decoders import (
    ClassificationHead,
    DecoderStack,
    EncoderDecoder,
    EncoderStack,
    Seq2SeqClassificationHead,
    Seq2SeqLMHead,
    Seq2SeqQuestionAnsweringHead,
    run_blocks,
    shift_tokens_right,
)
from maquette.modeling.layers.distances import RelativeBias
from maquette.modeling.losses import compute_token_loss
from maquette.modeling.packing import Layout, attention

from .configuration import T5Config

Opt = Tensor | None


class T5LayerNorm(RMSNorm):
    """Norms states, which may be of a higher precision than the weights, for these."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(self.weight.dtype)


class T5Attention(nn.Module):
    """Attention without scaling: fresh queries are small instead. The first of a stack knows distances for all."""

    def __init__(self, config: T5Config, *, knows_distances: bool = False) -> None:
        super().__init__()
        self.width, self.dropout = config.d_kv, config.dropout_rate
        inner = config.num_heads * config.d_kv
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if knows_distances:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give keys and values, `(places, heads, width)`."""
        return self.k(x).unflatten(-1, (-1, self.width)), self.v(x).unflatten(-1, (-1, self.width))

    def forward(self, x: Tensor, layout: Layout, source: Source | None, bias: Any, *, causal: bool) -> Tensor:
        q = self.q(x).unflatten(-1, (-1, self.width))  # (places, heads, width)
        more: dict[str, Any] = {"scale": 1.0, "dropout": self.dropout if self.training else 0.0}
        if source is not None:
            attended = cross_attention(q, self.project, source, **more)
        else:
            attended = attention(q, *self.project(x), layout, causal=causal, bias=bias, **more)
        return self.o(attended.flatten(-2))


class T5LayerSelfAttention(nn.Module):
    """Lets tokens look at each other; in a decoder, at those before them."""

    def __init__(self, config: T5Config, *, knows_distances: bool) -> None:
        super().__init__()
        self.SelfAttention = T5Attention(config, knows_distances=knows_distances)
        self.layer_norm = T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, x: Tensor, layout: Layout, bias: Any, *, causal: bool) -> Tensor:
        return x + self.dropout(self.SelfAttention(self.layer_norm(x), layout, None, bias, causal=causal))


class T5LayerCrossAttention(nn.Module):
    """Lets a decoder's tokens look at what the encoder read."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.EncDecAttention = T5Attention(config)
        self.layer_norm = T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, x: Tensor, layout: Layout, source: Source) -> Tensor:
        return x + self.dropout(self.EncDecAttention(self.layer_norm(x), layout, source, None, causal=False))


class T5Dense(nn.Module):
    """Works on each token by itself; in version 1.1 with a gate (Shazeer 2020)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.is_gated = config.is_gated_act
        if self.is_gated:
            self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
            self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        else:
            self.wi = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout_rate)
        self.act = ACT2FN[config.dense_act_fn or "relu"]

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act(self.wi_0(x)) * self.wi_1(x) if self.is_gated else self.act(self.wi(x))
        return self.wo(self.dropout(inner).to(self.wo.weight.dtype))


class T5LayerFF(nn.Module):
    """The feed-forward network, which works on normed states and is added to what came in."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = T5Dense(config)
        self.layer_norm = T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.DenseReluDense(self.layer_norm(x)))


class T5Block(nn.Module):
    """Attention, in a decoder also to the encoder's states, then the feed-forward network."""

    def __init__(self, config: T5Config, *, is_decoder: bool, knows_distances: bool) -> None:
        super().__init__()
        self.is_decoder = is_decoder
        looking = [T5LayerCrossAttention(config)] if is_decoder else []
        own = T5LayerSelfAttention(config, knows_distances=knows_distances)
        self.layer = nn.ModuleList([own, *looking, T5LayerFF(config)])

    def forward(self, x: Tensor, layout: Layout, source: Source | None, bias: Any) -> Tensor:
        # T5 was trained in bfloat16, which has room for more than float16
        x = keep_finite(self.layer[0](x, layout, bias, causal=self.is_decoder))  # (places, d_model)
        if source is not None:
            x = keep_finite(self.layer[1](x, layout, source))
        return keep_finite(self.layer[-1](x))


class T5PreTrainedModel(PreTrainedModel):
    """What all T5 models share. Heads take the arguments of `T5Model`, and labels."""

    base_model: Any
    config_class = T5Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any
    _no_split_modules = ("T5Block",)
    _skip_keys_device_placement = ("past_key_values",)
    _keep_in_fp32_modules = ("wo",)  # in float16, its outputs would be too large
    _keys_to_ignore_on_load_unexpected: ClassVar[tuple[str, ...]] = (
        r"layer\.1\.EncDecAttention\.relative_attention_bias",
    )

    def _init_weights(self, module: nn.Module) -> None:
        config, factor = self.config, self.config.initializer_factor
        if isinstance(module, T5LayerNorm):
            nn.init.constant_(module.weight, factor)
        elif isinstance(module, T5Attention):
            nn.init.normal_(module.q.weight, std=factor * (config.d_model * config.d_kv) ** -0.5)
            nn.init.normal_(module.o.weight, std=factor * (config.num_heads * config.d_kv) ** -0.5)
            for layer in (module.k, module.v, getattr(module, "relative_attention_bias", None)):
                if layer is not None:
                    nn.init.normal_(layer.weight, std=factor * config.d_model**-0.5)
        elif isinstance(module, T5Dense):
            for name, layer in module.named_children():
                if isinstance(layer, nn.Linear):
                    width = config.d_ff if name == "wo" else config.d_model
                    nn.init.normal_(layer.weight, std=factor * width**-0.5)
        elif isinstance(module, ClassificationHead):
            for layer in (module.dense, module.out_proj):
                nn.init.normal_(layer.weight, std=factor * config.d_model**-0.5)
                nn.init.zeros_(layer.bias)
        elif isinstance(module, _HasVocabulary):
            nn.init.normal_(module.shared.weight, std=factor)

    def _shift_right(self, input_ids: Tensor) -> Tensor:
        """Give what the decoder reads where it is to say `input_ids`."""
        return shift_tokens_right(input_ids, self.config.pad_token_id, self.config.decoder_start_token_id)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        ids = torch.tensor([[7, 6, 5, 3, 1], [1, 2, 3, 1, 0]]) % self.config.vocab_size
        return {"input_ids": ids, "decoder_input_ids": ids, "decoder_attention_mask": torch.ones_like(ids)}


class _T5Stack(T5PreTrainedModel):
    is_decoder: bool

    def __init__(self, config: T5Config, embed_tokens: nn.Embedding) -> None:
        super().__init__(config)
        count = config.num_decoder_layers if self.is_decoder else config.num_layers
        self.embed_tokens: Any = embed_tokens
        self.block = nn.ModuleList(
            T5Block(config, is_decoder=self.is_decoder, knows_distances=number == 0) for number in range(count or 0)
        )
        self.final_layer_norm = T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)
        self.gradient_checkpointing = False

    def _read(self, inputs: Tensor, layout: Layout, source: Source | None, *, keep_states: bool) -> Any:
        x = layout.gather(inputs)
        x = self.dropout(x if x.is_floating_point() else self.embed_tokens(x))  # (places, d_model)
        bias = self._make_bias(is_kept=not (self.gradient_checkpointing and self.training))
        x, states = run_blocks(self, self.block, x, layout, source, bias, keep_states=keep_states)
        x = self.dropout(self.final_layer_norm(x))
        return x, [*states[:-1], x] if keep_states else []

    def _make_bias(self, *, is_kept: bool) -> RelativeBias:
        """Give what distances add to scores, in every layer (section 2.1)."""
        layer: Any = self.get_submodule("block.0.layer.0.SelfAttention.relative_attention_bias")
        farthest = self.config.relative_attention_max_distance
        return RelativeBias.of_buckets(layer, farthest=farthest, both_ways=not self.is_decoder, is_kept=is_kept)


class T5Encoder(EncoderStack, _T5Stack):
    """Reads a text in both directions; distances are of places, padding between them counted."""

    is_decoder = False
    counts_padding = True


class T5Decoder(DecoderStack, _T5Stack):
    """Reads from left to right, and looks at what the encoder read."""

    is_decoder = True


class _HasVocabulary(T5PreTrainedModel):
    """A model in which the vocabulary's vectors are."""

    shared: Any


class T5Model(EncoderDecoder, _HasVocabulary):
    """Turns a text into states, and what follows from it into states that know the text."""

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Encoder(config, self.shared)
        self.decoder = T5Decoder(config, self.shared)

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run the model for a head that is made of it."""
        return T5Model.forward(self, input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})


class T5ForConditionalGeneration(Seq2SeqLMHead, T5Model):
    """Scores the vocabulary for every next token of what follows from a text."""

    _tied_weights_keys = {"lm_head.weight": "shared.weight"}  # noqa: RUF012
    _run_base = T5Model._run_base

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def _score_vocabulary(self, x: Tensor) -> Tensor:
        return self.lm_head(x * self.config.d_model**-0.5 if self.config.scale_decoder_outputs else x)

    @classmethod
    def _slots(cls, model: Any, checkpoint: Any) -> Any:
        """Untie the head where an untied file is said to be tied, as Transformers writes it of version 1.1."""
        has_both = {"lm_head.weight", "shared.weight"} <= checkpoint.shapes.keys()
        if has_both and model.config.tie_word_embeddings and not model.config.scale_decoder_outputs:
            model.lm_head.weight = nn.Parameter(torch.empty_like(model.shared.weight))
            model.config.tie_word_embeddings = False
        return super()._slots(model, checkpoint)


class T5EncoderModel(_HasVocabulary):
    """The encoder alone."""

    _keys_to_ignore_on_load_unexpected: ClassVar[tuple[str, ...]] = (r"^decoder\.", r"^lm_head\.")

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Encoder(config, self.shared)

    get_encoder = EncoderDecoder.get_encoder
    get_input_embeddings = EncoderDecoder.get_input_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.shared = self.encoder.embed_tokens = value

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_ids": super().dummy_inputs["input_ids"]}

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, **options: Any) -> Any:
        """Give the encoder's states, `last_hidden_state` of shape `(batch, length, d_model)`."""
        return self.encoder(input_ids, attention_mask, **options)


class T5ForSequenceClassification(Seq2SeqClassificationHead, T5PreTrainedModel):
    """Tells which class, or classes, a text is of, from the decoder's state at its end."""

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.transformer = T5Model(config)
        self.classification_head = ClassificationHead(config.d_model, config.num_labels, config.classifier_dropout)


class T5ForTokenClassification(T5PreTrainedModel):
    """Tells of every token which class it is of, from the encoder's states."""

    _keys_to_ignore_on_load_unexpected: ClassVar[tuple[str, ...]] = T5EncoderModel._keys_to_ignore_on_load_unexpected

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.transformer = T5EncoderModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_ids": super().dummy_inputs["input_ids"]}

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, length, num_labels)`; the loss of `labels`, `(batch, length)`, leaves out -100."""
        wanted = {**options, "as_laid_out": True, "return_dict": True}
        output = self.transformer(input_ids, attention_mask, **wanted)
        logits, layout = self.classifier(self.dropout(output.last_hidden_state)), output.layout  # (places, num_labels)
        loss = None if labels is None else compute_token_loss(logits, layout.gather(labels, fill=-100))
        return self._make_output(TokenClassifierOutput, output, options, loss, layout.scatter(logits))


class T5ForQuestionAnswering(Seq2SeqQuestionAnsweringHead, T5Model):
    """Finds where in a text the answer begins and ends."""

    _run_base = T5Model._run_base

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.d_model, 2)
