from maquette.registry import ModelEntry

CARD = ModelEntry(
    package=__name__,
    model_type="vit",
    config="configuration:ViTConfig",
    models={
        "AutoModel": "modeling:ViTModel",
        "AutoModelForImageClassification": "modeling:ViTForImageClassification",
        "AutoModelForMaskedImageModeling": "modeling:ViTForMaskedImageModeling",
        "TFAutoModel": "modeling_tf:TFViTModel",
        "TFAutoModelForImageClassification": "modeling_tf:TFViTForImageClassification",
        "TFAutoModelForMaskedImageModeling": "modeling_tf:TFViTForMaskedImageModeling",
        "FlaxAutoModel": "modeling_flax:FlaxViTModel",
        "FlaxAutoModelForImageClassification": "modeling_flax:FlaxViTForImageClassification",
        "FlaxAutoModelForMaskedImageModeling": "modeling_flax:FlaxViTForMaskedImageModeling",
    },
    image_processor="image_processing:ViTImageProcessor",
    exports=(
        "modeling:ViTPreTrainedModel",
        "modeling_tf:TFViTPreTrainedModel",
        "modeling_flax:FlaxViTPreTrainedModel",
        "image_processing:ViTFeatureExtractor",
    ),
    tiny={
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "image_size": 12,
        "patch_size": 4,
        "encoder_stride": 4,
    },
)
