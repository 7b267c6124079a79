"""Blueprint: a decoder, which reads a text from left to right and says what comes next.

It reads from top to bottom: attention, block, base model, head. *Places* stands for the leading axes of a tensor:
`(tokens,)` where padding is left out of the computation, `(batch, length)` where it is not. Nothing here says a word
about caches: the layout knows where tokens are, and what came before them.
"""

from typing import Any

from torch import Tensor, nn

from maquette import BaseModelOutputWithPast, GatedFeedForward, PreTrainedModel, RMSNorm, RotaryEmbedding
from maquette.modeling.decoders import CausalLMHead, LaidOutDecoderOutput, choose_cache
from maquette.modeling.layers.rotary import Rotation, rotate
from maquette.modeling.packing import Layout, attention, lay_out

from .configuration import BlueprintConfig

Opt = Tensor | None


class Attention(nn.Module):
    """Lets each token look at those before it in its own row."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        self.heads, self.window = config.heads, config.window
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.out = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # (places, heads, width)
        q, k = rotate(q, rotation), rotate(k, rotation)
        return self.out(attention(q, k, v, layout, causal=True, window=self.window).flatten(-2))


class Block(nn.Module):
    """Attention, then a feed-forward network; each works on normed states and is added to what came in."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(config.dim), RMSNorm(config.dim)
        self.attention = Attention(config)
        self.mlp = GatedFeedForward(config.dim, 3 * config.dim)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        x = x + self.attention(self.norm1(x), layout, rotation)  # (places, dim)
        return x + self.mlp(self.norm2(x))


class BlueprintPreTrainedModel(PreTrainedModel):
    """What all Blueprint models share."""

    config_class = BlueprintConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run the base model for a head."""
        return self.base_model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})


class BlueprintModel(BlueprintPreTrainedModel):
    """Turns texts into states, one vector per token, each of which knows the tokens before it."""

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
        past_key_values: Any = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, dim)`.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            past_key_values: the cache of earlier tokens, which takes in these.
            use_cache: whether to give a cache; unless given, as in the configuration, and not while training.
            return_dict: False gives a tuple; unless given, as in the configuration.
            as_laid_out: give states as `(places, dim)` with their `layout`, for heads.
        """
        cache = choose_cache(self, input_ids, past_key_values, use_cache)
        layout = lay_out(input_ids, attention_mask, cache=cache, count_padding=False)
        x = self.embed(layout.gather(input_ids))  # (places, dim)
        rotation = self.rotary(layout.positions(x.device), dtype=x.dtype)
        recomputes = self.gradient_checkpointing and self.training
        for block in self.blocks:
            inputs = (x, layout, rotation)
            x = self._gradient_checkpointing_func(block, *inputs) if recomputes else block(*inputs)
        x = self.norm(x)
        if as_laid_out:
            return LaidOutDecoderOutput(last_hidden_state=x, past_key_values=layout.cache, layout=layout)
        output = BaseModelOutputWithPast(last_hidden_state=layout.scatter(x), past_key_values=layout.cache)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class BlueprintForCausalLM(CausalLMHead, BlueprintPreTrainedModel):
    """Scores the vocabulary for every next token; `generate` goes on with texts."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.model = BlueprintModel(config)
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)
