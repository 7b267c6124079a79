from typing import Any

from maquette.registry import ModelEntry

_TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 18,
}
_GPT2: dict[str, Any] = {
    "vocab_size": 40,
    "n_embd": 12,
    "n_head": 3,
    "n_layer": 2,
    "n_positions": 16,
    "bos_token_id": 39,
}
_IMAGE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
_SOUND: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
_SOUND |= {"conv_dim": [6, 8], "conv_kernel": [4, 3], "conv_stride": [3, 2], "num_conv_pos_embeddings": 4}
_SOUND |= {"num_conv_pos_embedding_groups": 2, "feat_extract_norm": "layer", "mask_time_length": 2}
_STARTS = {"decoder_start_token_id": 1, "pad_token_id": 0}

CARDS = (
    ModelEntry(
        package=__name__,
        model_type="encoder-decoder",
        config="configuration:EncoderDecoderConfig",
        models={"AutoModelForSeq2SeqLM": "modeling:EncoderDecoderModel"},
        exports=("modeling:ComposedSeq2SeqModel",),
        tiny={"encoder": {**_TEXT, "model_type": "bert"}, "decoder": {**_TEXT, "model_type": "bert"}, **_STARTS},
    ),
    ModelEntry(
        package=__name__,
        model_type="vision-encoder-decoder",
        config="configuration:VisionEncoderDecoderConfig",
        models={
            "AutoModelForImageTextToText": "modeling:VisionEncoderDecoderModel",
            "AutoModelForVision2Seq": "modeling:VisionEncoderDecoderModel",
        },
        tiny={
            "encoder": {**_IMAGE, "model_type": "vit", "image_size": 12, "patch_size": 4},
            "decoder": {**_GPT2, "model_type": "gpt2"},
            **_STARTS,
        },
    ),
    ModelEntry(
        package=__name__,
        model_type="speech-encoder-decoder",
        config="configuration:SpeechEncoderDecoderConfig",
        models={"AutoModelForSpeechSeq2Seq": "modeling:SpeechEncoderDecoderModel"},
        tiny={
            "encoder": {**_SOUND, "model_type": "wav2vec2"},
            "decoder": {**_TEXT, "model_type": "bert"},
            **_STARTS,
        },
    ),
)
