"""What a DistilBERT can be: its widths, its depth, and how it is regularised."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from maquette import PretrainedConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Activation = Literal["gelu", "gelu_new", "relu", "silu", "tanh"]


class DistilBertConfig(PretrainedConfig):
    """Configures DistilBERT (Sanh et al. 2019); the defaults are those of `distilbert-base-uncased`.

    Args:
        vocab_size: entries of the vocabulary.
        max_position_embeddings: the longest input, in tokens.
        sinusoidal_pos_embds: positions are fixed sines and cosines (Vaswani et al. 2017, section 3.5), not learned.
        n_layers: blocks of the encoder.
        n_heads: attention heads of each block; they share `dim` equally.
        dim: width of a token's state.
        hidden_dim: width inside a block's feed-forward network.
        dropout: share of states to drop, after embeddings and feed-forward networks.
        attention_dropout: share of attention weights to drop.
        activation: between a feed-forward network's layers.
        initializer_range: standard deviation of fresh weights.
        qa_dropout: share of states to drop before the question answering head.
        seq_classif_dropout: share of states to drop inside the heads for sequence classification and multiple choice.
        pad_token_id: the vocabulary entry that is padding; its embedding starts at zero and gets no gradient.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations, as in the paper).
    """

    model_type = "distilbert"
    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }

    vocab_size: Count = 30522
    max_position_embeddings: Count = 512
    sinusoidal_pos_embds: bool = False
    n_layers: Count = 6
    n_heads: Count = 12
    dim: Count = 768
    hidden_dim: Count = 3072
    dropout: Share = 0.1
    attention_dropout: Share = 0.1
    activation: Activation = "gelu"
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    qa_dropout: Share = 0.1
    seq_classif_dropout: Share = 0.2
    pad_token_id: int | None = 0

    def validate(self) -> None:
        if self.dim % self.n_heads:
            raise ValueError(f"dim={self.dim} cannot be shared equally by n_heads={self.n_heads}.")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id={self.pad_token_id} is no entry of a vocabulary of {self.vocab_size}.")
        if self.sinusoidal_pos_embds and self.dim % 2:
            raise ValueError(f"sinusoidal_pos_embds needs an even dim (pairs of sine and cosine), not {self.dim}.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')
