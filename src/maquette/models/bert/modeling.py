"""BERT's heads, around the encoder of `encoder.py`; `roberta.py` has those of RoBERTa and XLM-RoBERTa.

Modules have the names that published checkpoints use. Heads take the arguments of `BertModel`, and labels.
"""

import logging
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maquette import (
    ACT2FN,
    MaskedLMOutput,
    ModelOutput,
    MultipleChoiceModelOutput,
    SequenceClassifierOutput,
)
from maquette.modeling.compatibility.outputs import (
    CausalLMOutputWithCrossAttentions,
    NextSentencePredictorOutput,
)
from maquette.modeling.decoders import (
    CausalLMHead,
    QuestionAnsweringHead,
    TokenClassificationHead,
    without_cache,
)
from maquette.modeling.losses import compute_classification_loss, compute_token_loss

from .configuration import BertConfig
from .encoder import BertPreTrainedModel

logger = logging.getLogger(__name__)

Opt = Tensor | None


class BertForPreTrainingOutput(ModelOutput):
    """Scores of the vocabulary at every place, and of whether the second text follows the first."""

    loss: Any = None
    prediction_logits: Any = None
    seq_relationship_logits: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class BertPredictionHeadTransform(nn.Module):
    """Prepares states for the vocabulary."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_act_fn = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(self.transform_act_fn(self.dense(x)))


class BertLMPredictionHead(nn.Module):
    """Scores the vocabulary; its weight is that of the embeddings, its bias has two names in checkpoints."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform(x))


class BertPreTrainingHeads(nn.Module):
    """Scores the vocabulary, and whether a second text follows the first; a model may have one of the two only."""

    def __init__(self, config: BertConfig, *, predicts: bool = True, relates: bool = False) -> None:
        super().__init__()
        if predicts:
            self.predictions = BertLMPredictionHead(config)
        if relates:
            self.seq_relationship = nn.Linear(config.hidden_size, 2)


class ScoresVocabulary:
    """What heads that score the vocabulary share."""

    _tied_weights_keys: ClassVar[Any] = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def _add_head(self: Any) -> None:
        self.cls = BertPreTrainingHeads(self.config)

    def get_output_embeddings(self: Any) -> Any:
        return self.cls.predictions.decoder

    def set_output_embeddings(self: Any, value: Any) -> None:
        self.cls.predictions.decoder = value

    def _score_vocabulary(self: Any, x: Tensor) -> Tensor:
        return self.cls.predictions(x)


class BertForPreTraining(ScoresVocabulary, BertPreTrainedModel):
    """Scores the vocabulary at every place, and whether the second text follows the first."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._add_base(pools=True)
        self.cls = BertPreTrainingHeads(config, relates=True)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        ids = super().dummy_inputs["input_ids"]
        return {"input_ids": ids, "next_sentence_label": torch.arange(len(ids)) % 2}

    def forward(
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        labels: Opt = None,
        next_sentence_label: Opt = None,
        **options: Any,
    ) -> Any:
        """Give logits `(batch, length, vocab_size)` and `(batch, 2)`; the loss is the sum of what has labels.

        Args:
            input_ids, attention_mask, options: as `BertModel` takes them.
            labels: `(batch, length)`; -100 is left out.
            next_sentence_label: `(batch,)`, 0 where the second text follows the first, 1 where it does not.
        """
        output = self._run_base(input_ids, attention_mask, without_cache(options))
        layout, logits = output.layout, self.cls.predictions(output.last_hidden_state)  # (places, vocab_size)
        follows = self.cls.seq_relationship(output.pooler_output)
        losses = [] if labels is None else [compute_token_loss(logits, layout.gather(labels, fill=-100))]
        losses += [] if next_sentence_label is None else [compute_token_loss(follows, next_sentence_label.flatten())]
        loss = sum(losses) if losses else None
        return self._make_output(BertForPreTrainingOutput, output, options, loss, layout.scatter(logits), follows)


class BertLMHeadModel(ScoresVocabulary, CausalLMHead, BertPreTrainedModel):
    """Scores the vocabulary for every next token; a configuration with `is_decoder=True` makes it read on."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if not config.is_decoder:
            logger.warning("%s sees later tokens, too: is_decoder=True makes it read on.", type(self).__name__)
        self._add_base()
        self._add_head()

    def _make_causal_output(self, output: Any, options: dict[str, Any], loss: Any, logits: Tensor) -> Any:
        return self._make_output(CausalLMOutputWithCrossAttentions, output, options, loss, logits)


class BertForMaskedLM(ScoresVocabulary, BertPreTrainedModel):
    """Scores the vocabulary at every place."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._add_base()
        self._add_head()

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, length, vocab_size)`; the loss of `labels`, `(batch, length)`, leaves out -100."""
        output = self._run_base(input_ids, attention_mask, without_cache(options))
        logits, layout = self._score_vocabulary(output.last_hidden_state), output.layout  # (places, vocab_size)
        loss = None if labels is None else compute_token_loss(logits, layout.gather(labels, fill=-100))
        return self._make_output(MaskedLMOutput, output, options, loss, layout.scatter(logits))


class BertForNextSentencePrediction(BertPreTrainedModel):
    """Tells whether the second text follows the first."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._add_base(pools=True)
        self.cls = BertPreTrainingHeads(config, predicts=False, relates=True)

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, 2)`; `labels` are `(batch,)`, 0 where it follows, 1 where it does not."""
        output = self._run_base(input_ids, attention_mask, without_cache(options), only_first=True)
        logits = self.cls.seq_relationship(output.pooler_output)
        loss = None if labels is None else compute_token_loss(logits, labels.flatten())
        return self._make_output(NextSentencePredictorOutput, output, options, loss, logits)


class BertForSequenceClassification(BertPreTrainedModel):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""

    classifier: nn.Module

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._add_parts()

    def _add_parts(self) -> None:
        self._add_base(pools=True)
        self.dropout = nn.Dropout(self.config.head_dropout)
        self.classifier = nn.Linear(self.config.hidden_size, self.config.num_labels)

    def _score_rows(self, output: Any) -> Tensor:
        return self.classifier(self.dropout(output.pooler_output))

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self._run_base(input_ids, attention_mask, without_cache(options), only_first=True)
        logits, kind = self._score_rows(output), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(SequenceClassifierOutput, output, options, loss, logits)


class BertForMultipleChoice(BertPreTrainedModel):
    """Tells which of several texts fits best; its inputs are `(batch, choices, length)`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._add_base(pools=True)
        self.dropout = nn.Dropout(config.head_dropout)
        self.classifier = nn.Linear(config.hidden_size, 1)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_ids": torch.arange(24).view(2, 3, 4) % self.config.vocab_size}

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, choices)`; `labels` are `(batch,)`."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **options}
        flat = {name: x.flatten(0, 1) if isinstance(x, Tensor) else x for name, x in given.items()}
        output = self._run_base(flat.pop("input_ids"), flat.pop("attention_mask"), without_cache(flat), only_first=True)
        shape = next(x.shape for x in given.values() if isinstance(x, Tensor))
        logits = self.classifier(self.dropout(output.pooler_output)).view(shape[:2])
        loss = None if labels is None else compute_token_loss(logits, labels)
        return self._make_output(MultipleChoiceModelOutput, output, options, loss, logits)


class BertForTokenClassification(TokenClassificationHead, BertPreTrainedModel):
    """Tells of every token which class it is of."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._add_base()
        self.dropout = nn.Dropout(config.head_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def _score_tokens(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(x))


class BertForQuestionAnswering(QuestionAnsweringHead, BertPreTrainedModel):
    """Finds where in a text the answer begins and ends."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._add_base()
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
