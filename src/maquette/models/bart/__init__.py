from maquette.registry import ModelCard

CARD = ModelCard(
    package=__name__,
    model_type="bart",
    config="configuration:BartConfig",
    models={
        "AutoModel": "modeling:BartModel",
        "AutoModelForCausalLM": "modeling:BartForCausalLM",
        "AutoModelForSeq2SeqLM": "modeling:BartForConditionalGeneration",
        "AutoModelForSequenceClassification": "modeling:BartForSequenceClassification",
        "AutoModelForQuestionAnswering": "modeling:BartForQuestionAnswering",
    },
    tokenizer=("tokenization:BartTokenizer", "tokenization:BartTokenizerFast"),
    exports=("modeling:BartPreTrainedModel",),
    tiny={
        "vocab_size": 40,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "max_position_embeddings": 32,
        "init_std": 0.2,
    },
)
