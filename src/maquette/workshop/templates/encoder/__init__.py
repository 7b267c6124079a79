"""Blueprint, an encoder of texts. The card says what there is; classes are imported when they are asked for."""

from typing import Any

from maquette import ModelEntry

CARD = ModelEntry(
    package=__name__,
    model_type="blueprint",
    config="configuration:BlueprintConfig",
    models={
        "AutoModel": "modeling:BlueprintModel",
        "AutoModelForMaskedLM": "modeling:BlueprintForMaskedLM",
        "AutoModelForSequenceClassification": "modeling:BlueprintForSequenceClassification",
        "TFAutoModel": "modeling_tf:TFBlueprintModel",
        "TFAutoModelForMaskedLM": "modeling_tf:TFBlueprintForMaskedLM",
        "TFAutoModelForSequenceClassification": "modeling_tf:TFBlueprintForSequenceClassification",
        "FlaxAutoModel": "modeling_flax:FlaxBlueprintModel",
        "FlaxAutoModelForMaskedLM": "modeling_flax:FlaxBlueprintForMaskedLM",
        "FlaxAutoModelForSequenceClassification": "modeling_flax:FlaxBlueprintForSequenceClassification",
    },
    tokenizer=(None, "tokenization:BlueprintTokenizerFast"),
    exports=("modeling:BlueprintPreTrainedModel",),
    tiny={"vocab_size": 40, "dim": 16, "heads": 4, "depth": 2},  # what the conformance kit builds
)


def __getattr__(name: str) -> Any:
    if name in CARD.public():
        return CARD.load(CARD.public()[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
