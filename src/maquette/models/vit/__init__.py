from maquette.registry import ModelCard

CARD = ModelCard(
    package=__name__,
    model_type="vit",
    config="configuration:ViTConfig",
    models={
        "AutoModel": "modeling:ViTModel",
        "AutoModelForImageClassification": "modeling:ViTForImageClassification",
        "AutoModelForMaskedImageModeling": "modeling:ViTForMaskedImageModeling",
    },
    image_processor="image_processing:ViTImageProcessor",
    exports=("modeling:ViTPreTrainedModel", "image_processing:ViTFeatureExtractor"),
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
