"""RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2020): BERT with other positions and other heads."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from maquette.modeling.packing import Layout

from .configuration import RobertaConfig, XLMRobertaConfig
from .encoder import BertEmbeddings, BertModel, BertPreTrainedModel, check_length
from .modeling import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
)


class RobertaEmbeddings(BertEmbeddings):
    """Embeddings whose table of positions has a row for padding, which stays zero."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, config.hidden_size, padding_idx=config.pad_token_id
        )


class RobertaLMHead(nn.Module):
    """Scores the vocabulary; its weight is that of the embeddings, its bias has two names in checkpoints."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(gelu(self.dense(x))))


class RobertaClassificationHead(nn.Module):
    """Scores the classes of a row by its first token."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.head_dropout)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, first: Tensor) -> Tensor:
        return self.out_proj(self.dropout(self.dense(self.dropout(first)).tanh()))


class RobertaPreTrainedModel(BertPreTrainedModel):
    """What all models of RoBERTa share. Heads take the arguments of `RobertaModel`, and labels."""

    config_class: ClassVar[Any] = RobertaConfig
    base_model_prefix = "roberta"
    _no_split_modules = ("RobertaEmbeddings", "BertLayer")

    def _make_base(self, pools: bool) -> Any:
        return RobertaModel(self.config, pools)


class RobertaModel(RobertaPreTrainedModel, BertModel):
    """Turns texts into states, as `BertModel` does.

    Positions begin at `pad_token_id + 1`. In an encoder they count the ids that are not `pad_token_id`, whatever the
    mask says, as those that checkpoints were trained with; in a decoder, real tokens.
    """

    embeddings_class = RobertaEmbeddings

    def _count(self, layout: Layout, inputs: Tensor) -> Tensor:
        padding = self.config.pad_token_id
        check_length(layout, self.config.max_position_embeddings - padding - 1)
        if inputs.is_floating_point() or not layout.counts_padding:
            return layout.positions(inputs.device) + padding + 1
        real = inputs != padding
        return layout.gather(real.cumsum(1) * real + padding)


class RobertaScoresVocabulary:
    """What heads that score the vocabulary share."""

    lm_head: nn.Module
    _tied_weights_keys: ClassVar[Any] = {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def _add_head(self: Any) -> None:
        self.lm_head = RobertaLMHead(self.config)

    def get_output_embeddings(self: Any) -> Any:
        return self.lm_head.decoder

    def set_output_embeddings(self: Any, value: Any) -> None:
        self.lm_head.decoder = value

    def _score_vocabulary(self: Any, x: Tensor) -> Tensor:
        return self.lm_head(x)


class RobertaForCausalLM(RobertaScoresVocabulary, RobertaPreTrainedModel, BertLMHeadModel):
    """Scores the vocabulary for every next token; a configuration with `is_decoder=True` makes it read on."""


class RobertaForMaskedLM(RobertaScoresVocabulary, RobertaPreTrainedModel, BertForMaskedLM):
    """Scores the vocabulary at every place."""


class RobertaForSequenceClassification(RobertaPreTrainedModel, BertForSequenceClassification):
    """Tells which class, or classes, a text is of, or the numbers that belong to it; it has no pooler."""

    def _add_parts(self) -> None:
        self._add_base()
        self.classifier = RobertaClassificationHead(self.config)

    def _score_rows(self, output: Any) -> Tensor:
        return self.classifier(output.last_hidden_state[:, 0])


class RobertaForMultipleChoice(RobertaPreTrainedModel, BertForMultipleChoice):
    """Tells which of several texts fits best; its inputs are `(batch, choices, length)`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.dropout.p = config.hidden_dropout_prob


class RobertaForTokenClassification(RobertaPreTrainedModel, BertForTokenClassification):
    """Tells of every token which class it is of."""


class RobertaForQuestionAnswering(RobertaPreTrainedModel, BertForQuestionAnswering):
    """Finds where in a text the answer begins and ends."""


class XLMRobertaPreTrainedModel(RobertaPreTrainedModel):
    """What all models of XLM-RoBERTa share. It is RoBERTa with another vocabulary."""

    config_class = XLMRobertaConfig

    def _make_base(self, pools: bool) -> Any:
        return XLMRobertaModel(self.config, pools)


class XLMRobertaModel(XLMRobertaPreTrainedModel, RobertaModel):
    """Turns texts into states, as `RobertaModel` does."""


class XLMRobertaForCausalLM(XLMRobertaPreTrainedModel, RobertaForCausalLM):
    """Scores the vocabulary for every next token."""


class XLMRobertaForMaskedLM(XLMRobertaPreTrainedModel, RobertaForMaskedLM):
    """Scores the vocabulary at every place."""


class XLMRobertaForSequenceClassification(XLMRobertaPreTrainedModel, RobertaForSequenceClassification):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""


class XLMRobertaForMultipleChoice(XLMRobertaPreTrainedModel, RobertaForMultipleChoice):
    """Tells which of several texts fits best."""


class XLMRobertaForTokenClassification(XLMRobertaPreTrainedModel, RobertaForTokenClassification):
    """Tells of every token which class it is of."""


class XLMRobertaForQuestionAnswering(XLMRobertaPreTrainedModel, RobertaForQuestionAnswering):
    """Finds where in a text the answer begins and ends."""
