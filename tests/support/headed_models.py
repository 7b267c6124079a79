"""Base models of three kinds without heads, and the heads that two lines each give them."""

from typing import Any

import torch
from torch import Tensor, nn

from maquette import (
    BaseModelOutput,
    GenericForImageClassification,
    GenericForQuestionAnswering,
    GenericForSequenceClassification,
    GenericForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from maquette.modeling.packing import attention, lay_out


class GlanceConfig(PretrainedConfig):
    model_type = "glance"
    vocab_size: int = 30
    dim: int = 8
    pad_token_id: int | None = 0


class GlancePreTrainedModel(PreTrainedModel):
    config_class = GlanceConfig
    base_model_prefix = "glance"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5)


class GlanceModel(GlancePreTrainedModel):
    """An encoder that leaves padding out of the computation, and gives states as they are laid out if asked."""

    def __init__(self, config: GlanceConfig) -> None:
        super().__init__(config)
        self.words, self.qkv = nn.Embedding(config.vocab_size, config.dim), nn.Linear(config.dim, 3 * config.dim)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        layout = lay_out(input_ids, attention_mask)
        q, k, v = self.qkv(self.words(layout.gather(input_ids))).unflatten(-1, (3, 2, -1)).unbind(-3)
        x = attention(q, k, v, layout).flatten(-2)
        output = BaseModelOutput(last_hidden_state=x if as_laid_out else layout.scatter(x))
        if as_laid_out:
            output["layout"] = layout
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class GlanceForSequenceClassification(GenericForSequenceClassification, GlancePreTrainedModel):
    base_model_class = GlanceModel
    pooling = "mean"


class GlanceForTokenClassification(GenericForTokenClassification, GlancePreTrainedModel):
    base_model_class = GlanceModel


class GlanceForQuestionAnswering(GenericForQuestionAnswering, GlancePreTrainedModel):
    base_model_class = GlanceModel


class EchoConfig(PretrainedConfig):
    model_type = "echo"
    vocab_size: int = 30
    units: int = 8


class EchoModel(PreTrainedModel):
    """Reads from left to right, has never heard of masks, and gives a bare tensor."""

    config_class = EchoConfig
    main_input_name = "ids"

    def __init__(self, config: EchoConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.units)
        self.cell = nn.GRU(config.units, config.units, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        states: Tensor = self.cell(self.words(ids))[0]
        return states


class EchoForSequenceClassification(GenericForSequenceClassification):
    base_model_class = EchoModel

    @property
    def head_width(self) -> int:
        return int(self.config.units)


class StripesConfig(PretrainedConfig):
    model_type = "stripes"
    embed_dim: int = 6


class StripesModel(PreTrainedModel):
    """Turns images into maps, as a dictionary of its own."""

    config_class = StripesConfig
    main_input_name = "pixel_values"

    def __init__(self, config: StripesConfig) -> None:
        super().__init__(config)
        self.patches = nn.Conv2d(1, config.embed_dim, 4, stride=2)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"pixel_values": torch.linspace(-1, 1, 2 * 10 * 8).reshape(2, 1, 10, 8)}

    def forward(self, pixel_values: Tensor) -> Any:
        return {"maps": self.patches(pixel_values).relu()}  # (batch, width, 4, 3)


class StripesForImageClassification(GenericForImageClassification):
    base_model_class = StripesModel
