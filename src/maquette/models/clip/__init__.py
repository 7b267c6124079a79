from maquette.registry import ModelEntry

TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 12,
    "projection_dim": 10,
    "bos_token_id": 1,
    "eos_token_id": 3,
    "pad_token_id": 3,
}
IMAGE = {
    "hidden_size": 20,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 12,
    "patch_size": 4,
    "projection_dim": 10,
}

CARDS = (
    ModelEntry(
        package=__name__,
        model_type="clip",
        config="configuration:CLIPConfig",
        models={
            "AutoModel": "modeling:CLIPModel",
            "AutoModelForZeroShotImageClassification": "modeling:CLIPModel",
            "AutoModelForImageClassification": "modeling:CLIPForImageClassification",
        },
        tokenizer=("tokenization:CLIPTokenizer", "tokenization:CLIPTokenizerFast"),
        image_processor="processing:CLIPImageProcessor",
        processor="processing:CLIPProcessor",
        exports=("modeling:CLIPPreTrainedModel", "modeling:CLIPOutput", "processing:CLIPFeatureExtractor"),
        tiny={"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 10},
    ),
    ModelEntry(
        package=__name__,
        model_type="clip_text_model",
        config="configuration:CLIPTextConfig",
        models={
            "AutoModel": "modeling:CLIPTextModel",
            "AutoModelForTextEncoding": "modeling:CLIPTextModel",
        },
        exports=("modeling:CLIPTextModelWithProjection", "modeling:CLIPTextModelOutput"),
        tiny=TEXT,
    ),
    ModelEntry(
        package=__name__,
        model_type="clip_vision_model",
        config="configuration:CLIPVisionConfig",
        models={"AutoModel": "modeling:CLIPVisionModel"},
        exports=("modeling:CLIPVisionModelWithProjection", "modeling:CLIPVisionModelOutput"),
        tiny=IMAGE,
    ),
)
