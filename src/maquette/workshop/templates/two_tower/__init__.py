"""Blueprint, which compares images with texts. The card says what there is; classes are imported when asked for."""

from typing import Any

from maquette import ModelEntry

CARD = ModelEntry(
    package=__name__,
    model_type="blueprint",
    config="configuration:BlueprintConfig",
    models={
        "AutoModel": "modeling:BlueprintModel",
        "AutoModelForZeroShotImageClassification": "modeling:BlueprintModel",
    },
    tokenizer=(None, "tokenization:BlueprintTokenizerFast"),
    image_processor="image_processing:BlueprintImageProcessor",
    processor="processing:BlueprintProcessor",
    exports=("modeling:BlueprintPreTrainedModel",),
    # What the conformance kit builds.
    tiny={"vocab_size": 40, "text_dim": 16, "text_depth": 1, "widths": [8, 16], "groups": 4, "dim": 12},
)


def __getattr__(name: str) -> Any:
    if name in CARD.public():
        return CARD.load(CARD.public()[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
