from maquette.registry import ModelCard

CARD = ModelCard(
    package=__name__,
    model_type="whisper",
    config="configuration:WhisperConfig",
    models={
        "AutoModel": "modeling:WhisperModel",
        "AutoModelForSpeechSeq2Seq": "modeling:WhisperForConditionalGeneration",
        "AutoModelForAudioClassification": "modeling:WhisperForAudioClassification",
        "AutoModelForCausalLM": "modeling:WhisperForCausalLM",
    },
    exports=("modeling:WhisperPreTrainedModel",),
    tiny={
        "vocab_size": 40,
        "num_mel_bins": 6,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "max_source_positions": 9,
        "max_target_positions": 32,
        "classifier_proj_size": 12,
        "init_std": 0.2,
        "pad_token_id": 1,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "decoder_start_token_id": 2,
        "begin_suppress_tokens": None,
    },
)
