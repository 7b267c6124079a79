"""A tower of one's own before a built-in decoder: it looks at a picture, and writes down the digits in it."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

import maquette
from maquette import BaseModelOutput, GPT2Config, PretrainedConfig, PreTrainedModel


class TowerConfig(PretrainedConfig):
    """Configures the tower: the size of its pictures, in pixels, and the width of its states."""

    model_type = "digit-tower"
    height: int = 12
    width: int = 36
    hidden_size: int = 64


class Tower(PreTrainedModel):
    """Turns pictures into states, one for every four columns of pixels; each knows where it is."""

    config_class = TowerConfig
    main_input_name = "pixel_values"

    def __init__(self, config: TowerConfig) -> None:
        super().__init__(config)
        whole, half, rows = config.hidden_size, config.hidden_size // 2, -(-config.height // 2)
        self.edges = nn.Conv2d(1, half, 3, padding=1)
        self.strokes = nn.Conv2d(half, half, 3, stride=2, padding=1)
        self.digits = nn.Conv2d(half, whole, (rows, 5), stride=(1, 2), padding=(0, 2))  # columns from top to bottom
        self.places = nn.Parameter(torch.randn(-(-config.width // 4), whole))

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        shape = (2, 1, self.config.height, self.config.width)
        return {"pixel_values": torch.linspace(-1, 1, 2 * shape[2] * shape[3]).reshape(shape)}

    def forward(self, pixel_values: Tensor, return_dict: bool | None = None) -> BaseModelOutput:
        """Give `last_hidden_state`, `(batch, places, hidden_size)`, for pictures `(batch, 1, height, width)`."""
        x = self.digits(gelu(self.strokes(gelu(self.edges(pixel_values)))))  # (batch, hidden_size, 1, places)
        return BaseModelOutput(last_hidden_state=gelu(x).flatten(2).transpose(1, 2) + self.places)


class CaptionerConfig(maquette.VisionEncoderDecoderConfig):
    """Configures the two parts."""

    model_type = "digit-captioner"
    encoder: TowerConfig
    decoder: GPT2Config


class Captioner(maquette.VisionEncoderDecoderModel):
    """The tower, and GPT-2 looking at it."""

    config_class = CaptionerConfig
    encoder_class = Tower
