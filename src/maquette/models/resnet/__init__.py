from maquette.registry import ModelEntry

CARD = ModelEntry(
    package=__name__,
    model_type="resnet",
    config="configuration:ResNetConfig",
    models={
        "AutoModel": "modeling:ResNetModel",
        "AutoModelForImageClassification": "modeling:ResNetForImageClassification",
        "AutoBackbone": "modeling:ResNetBackbone",
        "TFAutoModel": "modeling_tf:TFResNetModel",
        "TFAutoModelForImageClassification": "modeling_tf:TFResNetForImageClassification",
        "TFAutoBackbone": "modeling_tf:TFResNetBackbone",
        "FlaxAutoModel": "modeling_flax:FlaxResNetModel",
        "FlaxAutoModelForImageClassification": "modeling_flax:FlaxResNetForImageClassification",
        "FlaxAutoBackbone": "modeling_flax:FlaxResNetBackbone",
    },
    exports=(
        "modeling:ResNetPreTrainedModel",
        "modeling_tf:TFResNetPreTrainedModel",
        "modeling_flax:FlaxResNetPreTrainedModel",
    ),
    tiny={"embedding_size": 4, "hidden_sizes": [8, 12], "depths": [1, 2], "num_labels": 3},
)
