"""Blueprint, a model of speech. The card says what there is; classes are imported when they are asked for."""

from typing import Any

from maquette import ModelEntry

CARD = ModelEntry(
    package=__name__,
    model_type="blueprint",
    config="configuration:BlueprintConfig",
    models={
        "AutoModel": "modeling:BlueprintModel",
        "AutoModelForAudioClassification": "modeling:BlueprintForAudioClassification",
    },
    feature_extractor="feature_extraction:BlueprintFeatureExtractor",
    exports=("modeling:BlueprintPreTrainedModel",),
    tiny={"bands": 8, "dim": 16, "depth": 2},  # what the conformance kit builds
)


def __getattr__(name: str) -> Any:
    if name in CARD.public():
        return CARD.load(CARD.public()[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
