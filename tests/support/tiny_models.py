"""The built-in torch models as small as they get, with inputs that have padding where the model knows it."""

import functools
from typing import Any

import torch

import maquette
from maquette import DistilBertConfig, PreTrainedModel, ResNetConfig, ViTConfig, Wav2Vec2Config


@functools.cache
def configs() -> dict[str, Any]:
    """Make a small configuration of every architecture, by the prefix of its models' names."""
    transformer: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = DistilBertConfig(
        vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=32, num_labels=3
    )
    convolutions = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    return {
        "DistilBert": text,
        "ResNet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3),
        "ViT": ViTConfig(**transformer, intermediate_size=32, image_size=32, patch_size=16, num_labels=3),
        "Wav2Vec2": Wav2Vec2Config(**transformer, intermediate_size=32, vocab_size=32, num_labels=3, **convolutions),
    }


def inputs_of(name: str) -> dict[str, torch.Tensor]:
    """Give inputs of two rows, the second of which is shorter where that can be."""
    generator = torch.Generator().manual_seed(3)
    if name.startswith("DistilBert"):
        return {"input_ids": torch.arange(10).view(2, 5), "attention_mask": torch.tensor([[1] * 5, [1, 1, 0, 0, 0]])}
    if name.startswith("Wav2Vec2"):
        mask = (torch.arange(3000) < torch.tensor([[3000], [1500]])).long()
        return {"input_values": torch.randn(2, 3000, generator=generator), "attention_mask": mask}
    return {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator)}


@functools.cache
def _model(name: str) -> PreTrainedModel:
    torch.manual_seed(1)
    config = next(config for prefix, config in configs().items() if name.startswith(prefix))
    model: PreTrainedModel = getattr(maquette, name)(config)
    return model.eval()


def tiny(name: str) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """Give a built-in model, which others use too, and inputs for it."""
    return _model(name), inputs_of(name)
