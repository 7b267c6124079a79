"""Heads for decoders: what a model that reads texts from left to right needs around its blocks.

    class MyForCausalLM(CausalLMHead, MyPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.model = MyModel(config)
            self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)

A head asks its base model for states as they are laid out, `self.base_model(…, as_laid_out=True)`, which gives a
`LaidOutDecoderOutput`. Padding is not real: results there are zeros, labels there are ignored, and what reads one token
of a row reads its last real one.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from maquette.generation.cache import Cache
from maquette.modeling.losses import compute_classification_loss, compute_span_loss, compute_token_loss
from maquette.modeling.outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from maquette.modeling.packing import Layout, is_traced
from maquette.modeling.problems import IGNORED

Opt = Tensor | None


class LaidOutDecoderOutput(BaseModelOutputWithPast):
    """What a base model gives its heads: states as `(places, dim)`, in the layout that is given with them."""

    layout: Layout | None = None
    router_logits: tuple[Any, ...] | None = None


def choose_cache(model: Any, inputs: Tensor, past_key_values: Any, use_cache: bool | None) -> Any:
    """Give the cache of a call: the one that is given, or a fresh one where one is wanted.

    Unless a call says `use_cache`, the configuration does, but for training; calls with labels, and heads that do not
    score the vocabulary, keep one only where they are asked. Nothing that is traced, or recomputes its blocks in
    the backward pass, keeps a cache.
    """
    if past_key_values is not None:
        return past_key_values
    wanted = model.config.use_cache and not model.training if use_cache is None else use_cache
    recomputes = model.training and model.is_gradient_checkpointing
    return Cache() if wanted and not recomputes and not is_traced(inputs) else None


def without_cache(options: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments of a call that goes on nowhere: no cache is kept, unless one is asked for."""
    return options if options.get("past_key_values") is not None else {"use_cache": False, **options}


def check_positions(layout: Layout, most: int) -> None:
    """Refuse rows that are longer, with what the cache holds of them, than a model has positions.

    Raises:
        ValueError: saying how long a row is.
    """
    if layout.shape[1] + max(layout.before, default=0) <= most or (layout.mask is not None and is_traced(layout.mask)):
        return
    longest = max(b + n for b, n in zip(layout.before or (0,) * layout.shape[0], layout.counts, strict=True))
    if longest > most:
        raise ValueError(f"{longest} tokens in a row, cached ones included, and {most} positions: truncate.")


class CausalLMHead:
    """Scores the vocabulary for every next token, with `lm_head`."""

    lm_head: nn.Module
    accepts_loss_kwargs = True

    def get_output_embeddings(self) -> Any:
        return self.lm_head

    def set_output_embeddings(self, value: Any) -> None:
        self.lm_head = value

    def _score_vocabulary(self, x: Tensor) -> Tensor:
        """Turn states into logits; override it for what comes after the layer."""
        logits: Tensor = self.lm_head(x)
        return logits

    def forward(
        self: Any,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        labels: Opt = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        **options: Any,
    ) -> Any:
        """Give logits `(batch, length, vocab_size)`, and the loss of `labels`, `(batch, length)`.

        Args:
            input_ids, attention_mask, options: as the base model takes them.
            labels: the ids themselves, which are shifted here: the label of a place is that of the next one. -100 is
                left out.
            logits_to_keep: compute these logits only: a number for each row's last real tokens, 0 for all; or places,
                `(places,)` for all rows alike or `(batch, places)`; or True at those to keep, `(batch, length)`.
            num_items_in_batch: what to divide the sum of losses by; unless given, how many labels count.
        """
        if labels is not None:
            options = without_cache(options)
        output = self._run_base(input_ids, attention_mask, options)
        x, layout, loss = output.last_hidden_state, output.layout, None
        if labels is not None:
            x = self._score_vocabulary(x)  # (places, vocab_size)
            loss = self._compute_loss(x, labels, layout, num_items=num_items_in_batch)
        kept = keep_places(x, layout, logits_to_keep)
        logits = kept if labels is not None else self._score_vocabulary(kept)
        return self._make_causal_output(output, options, loss, logits)

    def _compute_loss(self, logits: Tensor, labels: Tensor, layout: Layout, *, num_items: Any) -> Tensor:
        """Compare logits with labels; override it for a model whose labels are no ids to be shifted."""
        return compute_next_token_loss(logits, labels, layout, num_items=num_items)

    def _make_causal_output(self: Any, output: Any, options: dict[str, Any], loss: Any, logits: Tensor) -> Any:
        """Make the output; override it for one that has more fields."""
        return self._make_output(CausalLMOutputWithPast, output, options, loss, logits)


class SequenceClassificationHead:
    """Tells which class, or classes, a text is of, from each row's last real token, with `score`.

    Where no mask is given, tokens at the end of a row that are `config.pad_token_id` are padding.
    """

    score: nn.Module

    def forward(
        self: Any, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any
    ) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        if attention_mask is None:
            attention_mask = self._find_padding(input_ids)
        output = self._run_base(input_ids, attention_mask, without_cache(options))
        logits = self.score(self._pool(output))
        kind = self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(SequenceClassifierOutputWithPast, output, options, loss, logits)

    def _find_padding(self: Any, input_ids: Opt) -> Opt:
        """Give a mask that hides padding at the end of rows of ids, if the configuration has an id for it."""
        padding = self.config.pad_token_id
        if input_ids is None or padding is None or input_ids.is_floating_point():
            return None
        return ((input_ids != padding).flip(1).cumsum(1) > 0).long().flip(1)

    def _pool(self, output: Any) -> Tensor:
        """Make one vector of each row, `(batch, dim)`."""
        return take_last(output.last_hidden_state, output.layout)


class TokenClassificationHead:
    """Tells of every token which class it is of, with `score`."""

    dropout: nn.Module
    score: nn.Module

    def _score_tokens(self, x: Tensor) -> Tensor:
        logits: Tensor = self.score(self.dropout(x))
        return logits

    def forward(
        self: Any, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any
    ) -> Any:
        """Give logits `(batch, length, num_labels)`; the loss of `labels`, `(batch, length)`, leaves out -100."""
        output = self._run_base(input_ids, attention_mask, without_cache(options))
        logits, layout = self._score_tokens(output.last_hidden_state), output.layout  # (places, num_labels)
        loss = None if labels is None else compute_token_loss(logits, layout.gather(labels, fill=IGNORED))
        return self._make_output(TokenClassifierOutput, output, options, loss, layout.scatter(logits))


class QuestionAnsweringHead:
    """Finds where in a text the answer begins and ends, with `qa_outputs`.

    Checkpoints of other heads fill it, too, where these call their base model `model`, and this one by another name.
    """

    qa_outputs: nn.Module

    def _score_spans(self, x: Tensor) -> Tensor:
        """Turn states into two logits each; override it for a head with more layers."""
        logits: Tensor = self.qa_outputs(x)
        return logits

    @classmethod
    def _read_weights(cls: Any, model: Any, checkpoint: Any) -> dict[str, Any]:
        weights: dict[str, Any] = super()._read_weights(model, checkpoint)  # type: ignore[misc]
        own = f"{cls.base_model_prefix}."
        if any(name.startswith(own) for name in weights):
            return weights
        return {(own + name[6:] if name.startswith("model.") else name): value for name, value in weights.items()}

    def forward(
        self: Any,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        start_positions: Opt = None,
        end_positions: Opt = None,
        **options: Any,
    ) -> Any:
        """Give two logits `(batch, length)`, the lowest number at padding; positions are `(batch,)`."""
        output = self._run_base(input_ids, attention_mask, without_cache(options))
        logits = self._score_spans(output.last_hidden_state)  # (places, 2)
        start, end = output.layout.scatter(logits, fill=torch.finfo(logits.dtype).min).unbind(-1)
        loss = compute_span_loss((start, end), (start_positions, end_positions), output.layout.mask)
        return self._make_output(QuestionAnsweringModelOutput, output, options, loss, start, end)


def compute_next_token_loss(
    logits: Tensor, labels: Tensor, layout: Layout, *, num_items: Tensor | int | None = None
) -> Tensor:
    """Give the cross-entropy of each token's successor in its own row, in float32 at least.

    Args:
        logits: `(places, vocab_size)`.
        labels: `(batch, length)`; -100, and labels at padding, are left out.
        layout: of the logits.
        num_items: what to divide the sum by; unless given, how many labels count, at least 1.
    """
    if layout.mask is not None:
        labels = labels.masked_fill(~layout.mask, IGNORED)
    following = pad(labels[:, 1:], (0, 1), value=IGNORED)
    targets = layout.gather(following, fill=IGNORED).flatten().long()
    kind = torch.promote_types(logits.dtype, torch.float32)
    total = cross_entropy(logits.flatten(0, -2).to(kind), targets, ignore_index=IGNORED, reduction="sum")
    return total / ((targets != IGNORED).sum().clamp(min=1) if num_items is None else num_items)


def keep_places(x: Tensor, layout: Layout, wanted: int | Tensor) -> Tensor:
    """Bring `(places, …)` back to `(batch, length, …)`, or what is wanted of it, as `logits_to_keep` says."""
    if isinstance(wanted, int):
        if wanted == 1:
            return take_last(x, layout)[:, None]
        return layout.take_lasts(x, wanted) if wanted else layout.scatter(x)
    padded = layout.scatter(x)
    if wanted.dtype == torch.bool:
        return padded[wanted]
    if wanted.ndim == 1:
        return padded[:, wanted]
    return padded[torch.arange(len(padded), device=x.device)[:, None], wanted]


def take_last(x: Tensor, layout: Layout) -> Tensor:
    """Pick from `(places, …)` each row's last real token, `(batch, …)`; zeros where a row has none."""
    if layout.rows is not None:
        found = x.new_zeros(layout.shape[0], *x.shape[1:])
        return found.index_copy(0, layout.rows, x.index_select(0, layout.offsets[1:].long() - 1))
    if layout.mask is None:
        return x[:, -1]
    counted = layout.mask * torch.arange(1, layout.shape[1] + 1, device=x.device)
    last = x[torch.arange(layout.shape[0], device=x.device), counted.argmax(1)]
    return last.masked_fill(~layout.mask.any(1).view(-1, *(1,) * (last.ndim - 1)), 0.0)
