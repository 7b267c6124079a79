from maquette.registry import ModelCard

CARD = ModelCard(
    package=__name__,
    model_type="t5",
    config="configuration:T5Config",
    models={
        "AutoModel": "modeling:T5Model",
        "AutoModelForSeq2SeqLM": "modeling:T5ForConditionalGeneration",
        "AutoModelForSequenceClassification": "modeling:T5ForSequenceClassification",
        "AutoModelForTokenClassification": "modeling:T5ForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling:T5ForQuestionAnswering",
    },
    tokenizer=(None, "tokenization:T5TokenizerFast"),
    exports=("modeling:T5PreTrainedModel", "modeling:T5EncoderModel", "tokenization:T5Tokenizer"),
    tiny={
        "vocab_size": 40,
        "d_model": 16,
        "d_kv": 4,
        "d_ff": 24,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 8,
        "decoder_start_token_id": 0,
    },
)
