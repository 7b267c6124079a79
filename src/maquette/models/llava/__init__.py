from typing import Any

from maquette.registry import ModelEntry

_VISION: dict[str, Any] = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT: dict[str, Any] = {"model_type": "llama", "vocab_size": 40, "hidden_size": 12, "intermediate_size": 20}

CARD = ModelEntry(
    package=__name__,
    model_type="llava",
    config="configuration:LlavaConfig",
    models={
        "AutoModel": "modeling:LlavaModel",
        "AutoModelForImageTextToText": "modeling:LlavaForConditionalGeneration",
    },
    processor="processing:LlavaProcessor",
    exports=(
        "modeling:LlavaPreTrainedModel",
        "modeling:LlavaCausalLMOutputWithPast",
        "modeling:LlavaModelOutputWithPast",
    ),
    tiny={
        "vision_config": {**_VISION, "intermediate_size": 24, "image_size": 8, "patch_size": 4},
        "text_config": {**_TEXT, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32},
        "image_token_index": 3,
        "image_seq_length": 4,
        "vision_feature_layer": None,
    },
)
