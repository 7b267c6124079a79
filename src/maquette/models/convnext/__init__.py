from maquette.registry import ModelEntry

TINY = {"hidden_sizes": [8, 12, 16], "depths": [1, 1, 2], "num_stages": 3, "patch_size": 2, "num_labels": 3}


def _name(start: str) -> dict[str, str]:
    heads = {"AutoModel": "Model", "AutoModelForImageClassification": "ForImageClassification"}
    return {auto: f"modeling:{start}{head}" for auto, head in (heads | {"AutoBackbone": "Backbone"}).items()}


CARDS = (
    ModelEntry(
        package=__name__,
        model_type="convnext",
        config="configuration:ConvNextConfig",
        models=_name("ConvNext"),
        image_processor="image_processing:ConvNextImageProcessor",
        exports=("modeling:ConvNextPreTrainedModel", "image_processing:ConvNextFeatureExtractor"),
        tiny={**TINY, "layer_scale_init_value": 0.5},
    ),
    ModelEntry(
        package=__name__,
        model_type="convnextv2",
        config="configuration:ConvNextV2Config",
        models=_name("ConvNextV2"),
        image_processor="image_processing:ConvNextImageProcessor",
        exports=("modeling:ConvNextV2PreTrainedModel",),
        tiny=TINY,
    ),
)
