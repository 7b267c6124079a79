from maquette.registry import ModelEntry

CARD = ModelEntry(
    package=__name__,
    model_type="dinov2",
    config="configuration:Dinov2Config",
    models={
        "AutoModel": "modeling:Dinov2Model",
        "AutoModelForImageClassification": "modeling:Dinov2ForImageClassification",
        "AutoBackbone": "modeling:Dinov2Backbone",
    },
    image_processor="image_processing:BitImageProcessor",
    exports=("modeling:Dinov2PreTrainedModel",),
    tiny={
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "mlp_ratio": 2,
        "image_size": 12,
        "patch_size": 4,
        "use_mask_token": False,
        "num_labels": 3,
    },
)
