"""Blueprint: an encoder, whose tokens look at each other in both directions.

It reads from top to bottom: attention, block, base model, heads. *Places* stands for the leading axes of a tensor:
`(tokens,)` where padding is left out of the computation, `(batch, length)` where it is not.
"""

from typing import Any

from torch import Tensor, nn

from maquette import (
    BaseModelOutput,
    MaskedLMOutput,
    PreTrainedModel,
    RMSNorm,
    RotaryEmbedding,
    SequenceClassifierOutput,
)
from maquette.modeling.layers.rotary import Rotation, rotate
from maquette.modeling.losses import compute_classification_loss, compute_token_loss
from maquette.modeling.packing import Layout, attention, lay_out

from .configuration import BlueprintConfig

Opt = Tensor | None


class Attention(nn.Module):
    """Lets tokens look at the tokens of their own row."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # (places, heads, width)
        return self.out(attention(rotate(q, rotation), rotate(k, rotation), v, layout).flatten(-2))


class Block(nn.Module):
    """Attention, then a feed-forward network; each works on normed states and is added to what came in."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(config.dim), RMSNorm(config.dim)
        self.attention = Attention(config)
        self.mlp = nn.Sequential(
            nn.Linear(config.dim, 4 * config.dim), nn.GELU(), nn.Linear(4 * config.dim, config.dim)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), layout, rotation))  # (places, dim)
        return x + self.dropout(self.mlp(self.norm2(x)))


class BlueprintPreTrainedModel(PreTrainedModel):
    """What all Blueprint models share. Heads take the arguments of `BlueprintModel`, and labels."""

    config_class = BlueprintConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def _encode(self, input_ids: Tensor, attention_mask: Opt) -> tuple[Tensor, Layout]:
        """Run the base model for a head: states as `(places, dim)`, and their layout."""
        states: tuple[Tensor, Layout] = self.base_model(input_ids, attention_mask, as_laid_out=True)
        return states


class BlueprintModel(BlueprintPreTrainedModel):
    """Turns texts into states, one vector per token."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.rotary = RotaryEmbedding(config.dim // config.heads)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.dim)
        self.gradient_checkpointing = False

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Opt = None,
        *,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, dim)`, zeros at padding.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            return_dict: False gives a tuple; unless given, as in the configuration.
            as_laid_out: give a pair for heads: states as `(places, dim)`, and their layout.
        """
        layout = lay_out(input_ids, attention_mask, count_padding=False)
        x = self.embed(layout.gather(input_ids))  # (places, dim)
        rotation = self.rotary(layout.positions(x.device), dtype=x.dtype)
        recomputes = self.gradient_checkpointing and self.training
        for block in self.blocks:
            inputs = (x, layout, rotation)
            x = self._gradient_checkpointing_func(block, *inputs) if recomputes else block(*inputs)
        x = self.norm(x)
        if as_laid_out:
            return x, layout
        output = BaseModelOutput(last_hidden_state=layout.scatter(x))
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class BlueprintForMaskedLM(BlueprintPreTrainedModel):
    """Scores the vocabulary at every place, to learn from texts in which tokens were hidden."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.model = BlueprintModel(config)
        self.lm_head = nn.Linear(config.dim, config.vocab_size)

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def set_output_embeddings(self, value: Any) -> None:
        self.lm_head = value

    def forward(
        self, input_ids: Tensor, attention_mask: Opt = None, *, labels: Opt = None, return_dict: bool | None = None
    ) -> Any:
        """Give logits `(batch, length, vocab_size)`; the loss of `labels`, `(batch, length)`, leaves out -100."""
        x, layout = self._encode(input_ids, attention_mask)
        logits = self.lm_head(x)  # (places, vocab_size)
        loss = None if labels is None else compute_token_loss(logits, layout.gather(labels, fill=-100))
        output = MaskedLMOutput(loss=loss, logits=layout.scatter(logits))
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class BlueprintForSequenceClassification(BlueprintPreTrainedModel):
    """Tells which class, or classes, a text is of, from the mean of its tokens' states."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.model = BlueprintModel(config)
        self.score = nn.Linear(config.dim, config.num_labels)

    def forward(
        self, input_ids: Tensor, attention_mask: Opt = None, *, labels: Opt = None, return_dict: bool | None = None
    ) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        x, layout = self._encode(input_ids, attention_mask)
        sums = layout.scatter(x).sum(1)  # (batch, dim): padding is zeros
        count = input_ids.shape[1] if attention_mask is None else attention_mask.sum(1, keepdim=True).clamp(min=1)
        logits = self.score(sums / count)
        kind = self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        output = SequenceClassifierOutput(loss=loss, logits=logits)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()
