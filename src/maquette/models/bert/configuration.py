"""What BERT and its relatives can be: RoBERTa and XLM-RoBERTa are the same encoder with other vocabularies."""

from typing import Annotated

from msgspec import Meta

from maquette import PretrainedConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class BertConfig(PretrainedConfig):
    """Configures BERT (Devlin et al. 2019); the defaults are those of `bert-base-uncased`.

    Args:
        vocab_size: entries of the vocabulary.
        hidden_size: width of a token's state.
        num_hidden_layers: blocks of the encoder.
        num_attention_heads: attention heads of each block; they share `hidden_size` equally.
        intermediate_size: width inside a block's feed-forward network.
        hidden_act: between a feed-forward network's layers, a name in `ACT2FN`.
        hidden_dropout_prob: share of states to drop, after embeddings, attention and feed-forward networks.
        attention_probs_dropout_prob: share of attention weights to drop.
        max_position_embeddings: rows of the table of positions; RoBERTa has `pad_token_id + 1` more than tokens.
        type_vocab_size: kinds of tokens, such as those of a first and of a second text.
        initializer_range: standard deviation of fresh weights.
        layer_norm_eps: what norms add to the variance.
        pad_token_id: the vocabulary entry that is padding; its embedding starts at zero and gets no gradient.
        use_cache: of a decoder: whether calls give a cache unless they say otherwise; not while training.
        classifier_dropout: share of states to drop before classifiers, `hidden_dropout_prob` unless given.
        is_decoder: tokens see those before them only, and calls may keep a cache.
        add_cross_attention: of a decoder: blocks look at another model's states, too.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations, as in the paper).
    """

    model_type = "bert"

    vocab_size: Count = 30522
    hidden_size: Count = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Count = 12
    intermediate_size: Count = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: Share = 0.1
    attention_probs_dropout_prob: Share = 0.1
    max_position_embeddings: Count = 512
    type_vocab_size: Count = 2
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    layer_norm_eps: Annotated[float, Meta(ge=0)] = 1e-12
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    use_cache: bool = True
    classifier_dropout: Share | None = None
    is_decoder: bool = False
    add_cross_attention: bool = False

    def validate(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} cannot be shared equally by "
                f"num_attention_heads={self.num_attention_heads}."
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id={self.pad_token_id} is no entry of a vocabulary of {self.vocab_size}.")
        if self.add_cross_attention and not self.is_decoder:
            raise ValueError("add_cross_attention=True: only a decoder looks at another model; set is_decoder=True.")
        if self.get("position_embedding_type", "absolute") != "absolute":
            raise ValueError(f"position_embedding_type={self.position_embedding_type!r}: positions here are absolute.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')

    @property
    def head_dropout(self) -> float:
        """The share of states to drop before classifiers."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout


class RobertaConfig(BertConfig):
    """Configures RoBERTa (Liu et al. 2019); arguments are those of `BertConfig`.

    Positions are counted from `pad_token_id + 1`, so that `max_position_embeddings` is 514 in most checkpoints.
    """

    model_type = "roberta"

    vocab_size: Count = 50265
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def validate(self) -> None:
        if self.pad_token_id is None:
            raise ValueError("pad_token_id=None: RoBERTa's positions are counted from the padding token's entry.")
        if self.max_position_embeddings <= self.pad_token_id + 1:
            raise ValueError(
                f"max_position_embeddings={self.max_position_embeddings}: positions begin at pad_token_id + 1 = "
                f"{self.pad_token_id + 1}, so that no token has one."
            )
        super().validate()


class XLMRobertaConfig(RobertaConfig):
    """Configures XLM-RoBERTa (Conneau et al. 2020), RoBERTa on a hundred languages. Takes what `BertConfig` takes."""

    model_type = "xlm-roberta"

    vocab_size: Count = 30522
