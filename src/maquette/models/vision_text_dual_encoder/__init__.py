from typing import Any

from maquette.registry import ModelEntry

_SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}

CARD = ModelEntry(
    package=__name__,
    model_type="vision-text-dual-encoder",
    config="configuration:VisionTextDualEncoderConfig",
    models={"AutoModel": "modeling:VisionTextDualEncoderModel"},
    processor="processing:VisionTextDualEncoderProcessor",
    tiny={
        "vision_config": {**_SMALL, "model_type": "vit", "image_size": 12, "patch_size": 4},
        "text_config": {**_SMALL, "model_type": "bert", "vocab_size": 40, "max_position_embeddings": 18},
        "projection_dim": 10,
    },
)
