"""Blueprint, a model of images. The card says what there is; classes are imported when they are asked for."""

from typing import Any

from maquette import ModelEntry

CARD = ModelEntry(
    package=__name__,
    model_type="blueprint",
    config="configuration:BlueprintConfig",
    models={
        "AutoModel": "modeling:BlueprintModel",
        "AutoModelForImageClassification": "modeling:BlueprintForImageClassification",
        "TFAutoModel": "modeling_tf:TFBlueprintModel",
        "TFAutoModelForImageClassification": "modeling_tf:TFBlueprintForImageClassification",
        "FlaxAutoModel": "modeling_flax:FlaxBlueprintModel",
        "FlaxAutoModelForImageClassification": "modeling_flax:FlaxBlueprintForImageClassification",
    },
    image_processor="image_processing:BlueprintImageProcessor",
    exports=("modeling:BlueprintPreTrainedModel",),
    tiny={"widths": [8, 16], "depths": [1, 1], "groups": 4},  # what the conformance kit builds
)


def __getattr__(name: str) -> Any:
    if name in CARD.public():
        return CARD.load(CARD.public()[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
