"""Blueprint: a tower that reads texts and one that looks at images, which learn what belongs together.

It reads from top to bottom: the tower of texts, the tower of images, the model of both (Radford et al. 2021). *Places*
stands for the leading axes of a tensor: `(tokens,)` where padding is left out of the computation, `(batch, length)`
where it is not.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from maquette import BaseModelOutputWithPooling, PreTrainedModel, RMSNorm, RotaryEmbedding
from maquette.modeling.gathering import Rows
from maquette.modeling.layers.rotary import Rotation, rotate
from maquette.modeling.packing import Layout, attention, lay_out
from maquette.modeling.two_towers import TwoTowerOutput

from .configuration import BlueprintConfig

Opt = Tensor | None


class Attention(nn.Module):
    """Lets tokens look at the tokens of their own row."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        self.heads = config.text_heads
        self.qkv = nn.Linear(config.text_dim, 3 * config.text_dim)
        self.out = nn.Linear(config.text_dim, config.text_dim)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # (places, heads, width)
        return self.out(attention(rotate(q, rotation), rotate(k, rotation), v, layout).flatten(-2))


class TextBlock(nn.Module):
    """Attention, then a feed-forward network; each works on normed states and is added to what came in."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        width = config.text_dim
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attention = Attention(config)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        x = x + self.attention(self.norm1(x), layout, rotation)  # (places, text_dim)
        return x + self.mlp(self.norm2(x))


class TextTower(nn.Module):
    """Turns texts into states, one vector per token, and their mean."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.vocab_size, config.text_dim)
        self.rotary = RotaryEmbedding(config.text_dim // config.text_heads)
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.text_depth))
        self.norm = RMSNorm(config.text_dim)

    def forward(self, input_ids: Tensor, attention_mask: Opt) -> tuple[Tensor, Tensor]:
        layout = lay_out(input_ids, attention_mask, count_padding=False)
        x = self.embed(layout.gather(input_ids))  # (places, text_dim)
        rotation = self.rotary(layout.positions(x.device), dtype=x.dtype)
        for block in self.blocks:
            x = block(x, layout, rotation)
        x = layout.scatter(self.norm(x))  # (texts, length, text_dim), zeros at padding
        count = input_ids.shape[1] if attention_mask is None else attention_mask.sum(1, keepdim=True).clamp(min=1)
        return x, x.sum(1) / count


class ImageBlock(nn.Module):
    """Two convolutions on normed features, added to what came in (He et al. 2016, Identity Mappings)."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, width), nn.GroupNorm(groups, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:  # (images, width, rows, columns)
        return x + self.conv2(self.norm2(self.conv1(self.norm1(x).relu())).relu())


class ImageTower(nn.Module):
    """Turns images into features, one vector for every small square, and their mean."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        inputs = [config.num_channels, *config.widths]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 3, stride=2, padding=1), ImageBlock(width, config.groups))
            for before, width in zip(inputs, config.widths, strict=False)
        )
        self.norm = nn.GroupNorm(config.groups, config.widths[-1])

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        x = pixel_values
        for stage in self.stages:
            x = stage(x)
        x = self.norm(x).relu()  # (images, width, rows, columns)
        return x, x.mean((2, 3))


class BlueprintPreTrainedModel(PreTrainedModel):
    """What all Blueprint models share; there is one so far."""

    config_class = BlueprintConfig
    base_model_prefix = "model"

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two small texts and images."""
        pixels = torch.linspace(-1, 1, 2 * self.config.num_channels * 64).view(2, -1, 8, 8)
        return {**super().dummy_inputs, "pixel_values": pixels}


class BlueprintModel(BlueprintPreTrainedModel):
    """Both towers, and how well each text goes with each image: cosines, times `exp(logit_scale)`."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.text_model, self.vision_model = TextTower(config), ImageTower(config)
        self.text_projection = nn.Linear(config.text_dim, config.dim, bias=False)
        self.visual_projection = nn.Linear(config.widths[-1], config.dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.text_model.embed

    def set_input_embeddings(self, value: Any) -> None:
        self.text_model.embed = value

    def get_text_features(self, input_ids: Tensor, attention_mask: Opt = None) -> BaseModelOutputWithPooling:
        """Give the states of texts, and where they are in the space of both: `pooler_output`, `(texts, dim)`."""
        states, pooled = self.text_model(input_ids, attention_mask)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=self.text_projection(pooled))

    def get_image_features(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """Give the features of images, and where they are in the space of both: `pooler_output`, `(images, dim)`."""
        states, pooled = self.vision_model(pixel_values.to(self.dtype))
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=self.visual_projection(pooled))

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Opt = None,
        *,
        return_loss: bool = False,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute `logits_per_text`, `(texts, images)`, and `logits_per_image`, its transpose.

        Args:
            input_ids: `(texts, length)`, entries of the vocabulary.
            pixel_values: `(images, num_channels, height, width)`, as the image processor gives them.
            attention_mask: `(texts, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            return_loss: give the loss of texts and images that belong together row by row.
            return_dict: False gives a tuple; unless given, as in the configuration.

        Raises:
            ValueError: the loss of other numbers of texts than images.
        """
        texts, images = self.get_text_features(input_ids, attention_mask), self.get_image_features(pixel_values)
        text, image = normalize(texts.pooler_output, dim=-1), normalize(images.pooler_output, dim=-1)
        per_text = self.logit_scale.exp() * text @ image.T  # (texts, images)
        loss = self._contrast(text, image) if return_loss else None
        output = TwoTowerOutput(loss, per_text.T, per_text, text, image, texts, images)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()

    def _contrast(self, text: Tensor, image: Tensor) -> Tensor:
        """Guess which image a text is of and which text an image has, among the rows of all processes that train."""
        if len(text) != len(image):
            raise ValueError(f"return_loss=True takes pairs, and there are {len(text)} texts and {len(image)} images.")
        rows, scale = Rows(text, together=self.training), self.logit_scale.exp()
        labels = torch.tensor([*rows.labels], device=text.device)
        of_text, of_image = scale * text @ rows.gather(image).T, scale * image @ rows.gather(text).T
        return rows.average((cross_entropy(of_text, labels) + cross_entropy(of_image, labels)) / 2)
