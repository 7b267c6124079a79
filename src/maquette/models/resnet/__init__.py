from maquette.registry import ModelCard

CARD = ModelCard(
    package=__name__,
    model_type="resnet",
    config="configuration:ResNetConfig",
    models={
        "AutoModel": "modeling:ResNetModel",
        "AutoModelForImageClassification": "modeling:ResNetForImageClassification",
        "AutoBackbone": "modeling:ResNetBackbone",
    },
    exports=("modeling:ResNetPreTrainedModel",),
    tiny={"embedding_size": 4, "hidden_sizes": [8, 12], "depths": [1, 2], "num_labels": 3},
)
