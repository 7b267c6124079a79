from maquette.registry import ModelEntry

TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 8,
}
IMAGE = {
    "hidden_size": 16,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 12,
    "patch_size": 4,
}

CARDS = (
    ModelEntry(
        package=__name__,
        model_type="siglip",
        config="configuration:SiglipConfig",
        models={
            "AutoModel": "modeling:SiglipModel",
            "AutoModelForZeroShotImageClassification": "modeling:SiglipModel",
            "AutoModelForImageClassification": "modeling:SiglipForImageClassification",
        },
        tokenizer=(None, "tokenization:SiglipTokenizerFast"),
        image_processor="processing:SiglipImageProcessor",
        processor="processing:SiglipProcessor",
        exports=("modeling:SiglipPreTrainedModel", "modeling:SiglipOutput", "tokenization:SiglipTokenizer"),
        tiny={"text_config": TEXT, "vision_config": IMAGE},
    ),
    ModelEntry(
        package=__name__,
        model_type="siglip_text_model",
        config="configuration:SiglipTextConfig",
        models={"AutoModel": "modeling:SiglipTextModel", "AutoModelForTextEncoding": "modeling:SiglipTextModel"},
        tiny=TEXT,
    ),
    ModelEntry(
        package=__name__,
        model_type="siglip_vision_model",
        config="configuration:SiglipVisionConfig",
        models={"AutoModel": "modeling:SiglipVisionModel"},
        tiny=IMAGE,
    ),
)
