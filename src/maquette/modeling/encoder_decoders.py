"""What models with an encoder and a decoder share: one stack after the other, labels moved right, heads.

    class MyModel(EncoderDecoder, MyPreTrainedModel):            # self.encoder, self.decoder
    class MyForConditionalGeneration(Seq2SeqLMHead, MyPreTrainedModel):    # self.model, self.lm_head

A stack derives from `EncoderStack` or `DecoderStack` and says in `_read` what its layers do; layers look at the encoder
with `cross_attention(q, project, source)`. Padding is not real: results there are zeros, labels there are ignored.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from maquette.modeling.cross_attention import knows_source, look_at
from maquette.modeling.decoders import LaidOutDecoderOutput, choose_cache, keep_places
from maquette.modeling.encoder_decoder_outputs import (
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    Seq2SeqQuestionAnsweringModelOutput,
    Seq2SeqSequenceClassifierOutput,
)
from maquette.modeling.losses import compute_classification_loss, compute_span_loss
from maquette.modeling.packing import LaidOutOutput, Layout, is_traced, lay_out
from maquette.modeling.problems import IGNORED

Opt = Tensor | None
Read = tuple[Tensor, list[Tensor]]


def shift_tokens_right(input_ids: Tensor, pad_token_id: int | None, decoder_start_token_id: Any) -> Tensor:
    """Give what a decoder reads where `input_ids`, `(batch, length)`, is what it is to say; -100 becomes padding.

    Raises:
        ValueError: one of the two ids is not known.
    """
    if not isinstance(decoder_start_token_id, int) or pad_token_id is None:
        raise ValueError(
            f"decoder_start_token_id={decoder_start_token_id}, pad_token_id={pad_token_id}: labels are moved right "
            "behind a start token, and -100 becomes padding. Set both in the configuration, or give decoder_input_ids."
        )
    start = input_ids.new_full((input_ids.shape[0], 1), decoder_start_token_id)
    moved = torch.cat([start, input_ids[:, :-1]], dim=1)
    return moved.masked_fill(moved == IGNORED, pad_token_id)


def run_blocks(
    stack: Any, blocks: Iterable[nn.Module], x: Tensor, layout: Layout, *more: Any, keep_states: bool = False
) -> Read:
    """Run a stack's blocks, `block(x, layout, *more)`; gives the last states, and all of them if these are kept."""
    states = [x] if keep_states else []
    recompute = _find_recomputing(stack) if stack.gradient_checkpointing and stack.training else None
    for block in blocks:
        run: Callable[..., Tensor] = block
        x = run(x, layout, *more) if recompute is None else recompute(block, x, layout, *more)
        if keep_states:
            states.append(x)
    return x, states


def _find_recomputing(stack: Any) -> Callable[..., Tensor]:
    """Give what recomputes blocks; not by torch's older way, which finds no gradients in what a block looks at."""
    found: Any = stack._gradient_checkpointing_func
    is_reentrant = isinstance(found, functools.partial) and found.keywords.get("use_reentrant")
    return functools.partial(found, use_reentrant=False) if is_reentrant else found


class _Stack:
    """What both stacks have: token vectors of their own or shared ones, and a way through their layers."""

    embed_tokens: Any
    counts_padding = False
    # Turns ids or vectors `(batch, length, …)` into states `(places, dim)`, and gives all layers' if they are wanted:
    # `_read(inputs, layout, source, keep_states=…)`.
    _read: Callable[..., Read]

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.embed_tokens = value

    def _lay_out(self: Any, inputs: Tensor, mask: Opt, keep_weights: bool, cache: Any = None) -> Layout:
        explicit = self.config.attn_implementation == "eager"
        counted = self.counts_padding and cache is None
        more = {"explicit": explicit, "keep_weights": keep_weights, "count_padding": counted}
        return lay_out(inputs, mask, cache=cache, **more)


class EncoderStack(_Stack):
    """An encoder: reads texts in both directions."""

    main_input_name = "input_ids"

    def forward(
        self: Any,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        inputs_embeds: Opt = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Give states, `last_hidden_state` of shape `(batch, length, dim)`, and what is asked for besides."""
        inputs = self._choose_inputs(input_ids, inputs_embeds, width=self.config.d_model)
        layout = self._lay_out(inputs, attention_mask, self._chosen("output_attentions", output_attentions))
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        x, states = self._read(inputs, layout, None, keep_states=keep_states)
        output = LaidOutOutput(
            last_hidden_state=x if as_laid_out else layout.scatter(x),
            hidden_states=tuple(layout.scatter(state) for state in states) or None,
            attentions=tuple(layout.weights) if layout.weights else None,
            layout=layout if as_laid_out else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class LaidOutCrossOutput(LaidOutDecoderOutput):
    """What a decoder gives its heads: states as `(places, dim)` with their `layout`, weights on the encoder's, too."""

    cross_attentions: tuple[Any, ...] | None = None


class DecoderStack(_Stack):
    """A decoder: reads from left to right, and looks at an encoder's states where there are some."""

    def forward(
        self: Any,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        encoder_hidden_states: Opt = None,
        encoder_attention_mask: Opt = None,
        encoder_layout: Layout | None = None,
        past_key_values: Any = None,
        inputs_embeds: Opt = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Give states, `last_hidden_state` of shape `(batch, length, dim)`, and what is asked for besides.

        Args:
            input_ids, attention_mask, inputs_embeds: new tokens.
            encoder_hidden_states: `(batch, source length, dim)`, or `(places, dim)` in `encoder_layout`.
            encoder_attention_mask: `(batch, source length)`, 0 at padding.
            encoder_layout: where the states are laid out already.
            past_key_values: the cache of earlier tokens, which has what an encoder made, too.
            use_cache, output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            as_laid_out: give states as `(places, dim)` with their `layout`, for heads.
        """
        inputs = self._choose_inputs(input_ids, inputs_embeds, width=self.config.d_model)
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        cache = choose_cache(self, inputs, past_key_values, use_cache)
        layout = self._lay_out(inputs, attention_mask, keep_weights, cache)
        if encoder_hidden_states is not None and encoder_layout is None:
            encoder_layout = self._lay_out(encoder_hidden_states, encoder_attention_mask, keep_weights)
            encoder_hidden_states = encoder_layout.gather(encoder_hidden_states)
        source = None
        if encoder_hidden_states is not None or knows_source(layout.cache, layout.shape[0]):
            source = look_at(layout, encoder_hidden_states, encoder_layout)
        x, states = self._read(inputs, layout, source, keep_states=keep_states)
        output = LaidOutCrossOutput(
            last_hidden_state=x if as_laid_out else layout.scatter(x),
            past_key_values=layout.cache,
            hidden_states=tuple(layout.scatter(state) for state in states) or None,
            attentions=tuple(layout.weights) if layout.weights else None,
            cross_attentions=tuple(source.weights) if source is not None and source.weights else None,
            layout=layout if as_laid_out else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class EncoderDecoder:
    """Runs `self.encoder`, then `self.decoder`, which looks at its states."""

    encoder: Any
    decoder: Any
    shared: Any
    shifts_inputs = False  # whether a decoder without input reads the encoder's, moved right

    def get_encoder(self) -> Any:
        return self.encoder

    def get_decoder(self) -> Any:
        return self.decoder

    def get_input_embeddings(self) -> nn.Module:
        return self.shared

    def set_input_embeddings(self, value: Any) -> None:
        self.shared = self.encoder.embed_tokens = self.decoder.embed_tokens = value

    def forward(
        self: Any,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        decoder_input_ids: Opt = None,
        decoder_attention_mask: Opt = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Opt = None,
        decoder_inputs_embeds: Opt = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute the decoder's states, `last_hidden_state` of shape `(batch, length, dim)`, and the encoder's.

        Args:
            input_ids: `(batch, source length)`, what the encoder reads.
            attention_mask: `(batch, source length)`, 0 at padding, anywhere in a row.
            decoder_input_ids: `(batch, length)`, what the decoder reads, its start token first.
            decoder_attention_mask: `(batch, length)`; with a cache, earlier places may come before.
            encoder_outputs: what the encoder gave for these rows, so that it need not run; the mask belongs to it.
            past_key_values: the cache of earlier tokens. Once it has what these look at, the encoder does not run.
            inputs_embeds, decoder_inputs_embeds: vectors in place of ids.
            use_cache, output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            as_laid_out: give states as `(places, dim)` with their `layout`, for heads.

        Raises:
            ValueError: nothing for the decoder, or for the encoder, to read.
        """
        kept = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if not self.shifts_inputs or input_ids is None:
                raise ValueError("The decoder has nothing to read: give decoder_input_ids, its start token first.")
            ids = (self.config.pad_token_id, self.config.decoder_start_token_id)
            decoder_input_ids = shift_tokens_right(input_ids, *ids)
        rows = next(x.shape[0] for x in (decoder_input_ids, decoder_inputs_embeds) if x is not None)
        read: Any = None
        states, layout = None, None
        if encoder_outputs is not None:
            read = as_encoder_output(encoder_outputs)
            states = read.get("last_hidden_state")
            if states is None and not knows_source(past_key_values, rows):
                raise ValueError("encoder_outputs has no last_hidden_state, (batch, source length, dim), to look at.")
        elif not knows_source(past_key_values, rows):
            options = {"inputs_embeds": inputs_embeds, "return_dict": True, "as_laid_out": True, **kept}
            read = self.encoder(input_ids, attention_mask, **options)
            states, layout = read.last_hidden_state, read.layout
        output = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            inputs_embeds=decoder_inputs_embeds,
            encoder_hidden_states=states,
            encoder_attention_mask=attention_mask if layout is None else None,
            encoder_layout=layout,
            past_key_values=past_key_values,
            use_cache=use_cache,
            return_dict=True,
            as_laid_out=True,
            **kept,
        )
        found = {"hidden_states": None, "attentions": None, **(read or {})}
        result = Seq2SeqModelOutput(
            last_hidden_state=output.last_hidden_state
            if as_laid_out
            else output.layout.scatter(output.last_hidden_state),
            past_key_values=output.past_key_values,
            decoder_hidden_states=output.hidden_states,
            decoder_attentions=output.attentions,
            cross_attentions=output.cross_attentions,
            encoder_last_hidden_state=states if layout is None else layout.scatter(states),
            encoder_hidden_states=found["hidden_states"],
            encoder_attentions=found["attentions"],
        )
        if as_laid_out:
            result["layout"] = output.layout
        return result if self._chosen("return_dict", return_dict) else result.to_tuple()


def as_encoder_output(given: Any) -> Any:
    """Take what an encoder gave, as an output or as a tuple `(states, all states, weights)`."""
    if isinstance(given, Mapping):
        return given
    names = ("last_hidden_state", "hidden_states", "attentions")
    values = (given,) if isinstance(given, Tensor) else given
    return LaidOutOutput(**dict(zip(names, values, strict=False)))


# Heads -----------------------------------------------------------------------------------------------------------

_PASSED = (
    "past_key_values",
    "decoder_hidden_states",
    "decoder_attentions",
    "cross_attentions",
    "encoder_last_hidden_state",
    "encoder_hidden_states",
    "encoder_attentions",
)


def _pass_on(head: Any, kind: Any, output: Any, options: Mapping[str, Any], *values: Any) -> Any:
    """Give a head's loss and logits with what the base model kept, in the form that was asked for."""
    result = kind(*values, **{name: output.get(name) for name in _PASSED})
    return result if head._chosen("return_dict", options.get("return_dict")) else result.to_tuple()


class _Head:
    def get_encoder(self: Any) -> Any:
        base = self.base_model
        return self.encoder if base is self else base.get_encoder()

    def get_decoder(self: Any) -> Any:
        base = self.base_model
        return self.decoder if base is self else base.get_decoder()

    def _run_base(self: Any, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run the base model for a head."""
        return self.base_model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})


class Seq2SeqLMHead(_Head):
    """Scores the vocabulary for every next token of the decoder, with `lm_head`."""

    lm_head: Any
    accepts_loss_kwargs = True

    def get_output_embeddings(self) -> Any:
        return self.lm_head

    def set_output_embeddings(self, value: Any) -> None:
        self.lm_head = value

    def _score_vocabulary(self, x: Tensor) -> Tensor:
        """Turn states into logits; override it for what comes before and after the layer."""
        logits: Tensor = self.lm_head(x)
        return logits

    def prepare_decoder_input_ids_from_labels(self: Any, labels: Tensor) -> Tensor:
        """Give what the decoder reads where these are its labels."""
        return shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)

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
        """Give logits `(batch, length, vocab_size)`, and a loss where there are labels.

        Args:
            input_ids, attention_mask: what the encoder reads.
            options: as the base model takes them, the decoder's input among them.
            labels: `(batch, length)`, what each place is to say; -100 is left out. Unless the decoder is given
                something, it reads them moved right, behind the start token.
            logits_to_keep: give these logits only: a number for each row's last real tokens, 0 for all; or places, or a
                mask, as for decoders.
            num_items_in_batch: what to divide the sum of losses by; unless given, how many labels count.
        """
        if labels is not None:
            options = {"use_cache": False, **options}
            if options.get("decoder_input_ids") is None and options.get("decoder_inputs_embeds") is None:
                options["decoder_input_ids"] = self.prepare_decoder_input_ids_from_labels(labels)
        output = self._run_base(input_ids, attention_mask, options)
        x, layout, loss = output.last_hidden_state, output.layout, None
        if labels is None and not (isinstance(logits_to_keep, int) and logits_to_keep == 0):
            logits = self._score_vocabulary(keep_places(x, layout, logits_to_keep))
            return _pass_on(self, Seq2SeqLMOutput, output, options, loss, logits)
        scores = self._score_vocabulary(x)  # (places, vocab_size)
        if labels is not None:
            loss = compute_place_loss(scores, labels, layout, num_items=num_items_in_batch)
        logits = keep_places(scores, layout, logits_to_keep)
        return _pass_on(self, Seq2SeqLMOutput, output, options, loss, logits)


def compute_place_loss(
    logits: Tensor, labels: Tensor, layout: Layout, *, num_items: Tensor | int | None = None
) -> Tensor:
    """Give the mean cross-entropy of each place's own label, in float32 at least; 0 where there are none.

    Args:
        logits: `(places, vocab_size)`.
        labels: `(batch, length)`; -100, and labels at padding, are left out.
        layout: of the logits.
        num_items: what to divide the sum by; unless given, how many labels count.
    """
    targets = layout.gather(labels, fill=IGNORED).flatten().long()
    kind = torch.promote_types(logits.dtype, torch.float32)
    scores = logits.flatten(0, -2).to(kind)
    total = nn.functional.cross_entropy(scores, targets, ignore_index=IGNORED, reduction="sum")
    return total / ((targets != IGNORED).sum().clamp(min=1) if num_items is None else num_items)


class ClassificationHead(nn.Module):
    """Turns the state of one token into scores: two layers, a hyperbolic tangent between them."""

    def __init__(self, width: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(width, num_labels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, width)` to `(batch, num_labels)`."""
        scores: Tensor = self.out_proj(self.dropout(self.dense(self.dropout(x)).tanh()))
        return scores


class Seq2SeqClassificationHead(_Head):
    """Tells which class, or classes, a text is of, from the decoder's state at its last end token."""

    classification_head: nn.Module

    def forward(
        self: Any, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any
    ) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is.

        The decoder reads the same text, moved right, unless it is given another of the same length.

        Raises:
            ValueError: vectors instead of ids, or a row without an end token.
        """
        if input_ids is None:
            raise ValueError(
                "The state at the end token counts, so that input_ids are needed: inputs_embeds do not do."
            )
        if labels is not None:
            options = {"use_cache": False, **options}
        if options.get("decoder_input_ids") is None and options.get("decoder_inputs_embeds") is None:
            ids = (self.config.pad_token_id, self.config.decoder_start_token_id)
            options["decoder_input_ids"] = shift_tokens_right(input_ids, *ids)
        output = self._run_base(input_ids, attention_mask, options)
        states = output.layout.scatter(output.last_hidden_state)
        logits = self.classification_head(take_last_end(states, input_ids, self.config.eos_token_id))
        kind = self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return _pass_on(self, Seq2SeqSequenceClassifierOutput, output, options, loss, logits)


def take_last_end(states: Tensor, input_ids: Tensor, end: Any) -> Tensor:
    """Pick the state at each row's last end token, `(batch, dim)`.

    Raises:
        ValueError: a row has none.
    """
    ends = torch.tensor([end] if isinstance(end, int) else end, device=input_ids.device)
    is_end = (input_ids[..., None] == ends).any(-1)
    if not is_traced(input_ids) and not bool(is_end.any(1).all()):
        row = int((~is_end.any(1)).nonzero()[0])
        raise ValueError(f"Row {row} of input_ids has no end token ({end}), whose state is what is classified: add it.")
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    last = (is_end * places).argmax(1)
    return states[torch.arange(states.shape[0], device=states.device), last]


class Seq2SeqQuestionAnsweringHead(_Head):
    """Finds where in a text the answer begins and ends, from the decoder's states, with `qa_outputs`."""

    qa_outputs: nn.Module

    def forward(
        self: Any,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        start_positions: Opt = None,
        end_positions: Opt = None,
        **options: Any,
    ) -> Any:
        """Give two logits `(batch, length)`; positions are `(batch,)`, and none has a loss.

        The decoder reads the same text, moved right, unless it is given another.
        """
        if start_positions is not None:
            options = {"use_cache": False, **options}
        if input_ids is not None and options.get("decoder_input_ids") is None:
            ids = (self.config.pad_token_id, self.config.decoder_start_token_id)
            if options.get("decoder_inputs_embeds") is None:
                options["decoder_input_ids"] = shift_tokens_right(input_ids, *ids)
        output = self._run_base(input_ids, attention_mask, options)
        logits, layout = self.qa_outputs(output.last_hidden_state), output.layout  # (places, 2)
        start, end = layout.scatter(logits, fill=torch.finfo(logits.dtype).min).unbind(-1)
        loss = compute_span_loss((start, end), (start_positions, end_positions), layout.mask)
        return _pass_on(self, Seq2SeqQuestionAnsweringModelOutput, output, options, loss, start, end)
