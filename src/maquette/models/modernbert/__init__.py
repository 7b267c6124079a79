from maquette.registry import ModelCard

CARD = ModelCard(
    package=__name__,
    model_type="modernbert",
    config="configuration:ModernBertConfig",
    models={
        "AutoModel": "modeling:ModernBertModel",
        "AutoModelForMaskedLM": "modeling:ModernBertForMaskedLM",
        "AutoModelForSequenceClassification": "modeling:ModernBertForSequenceClassification",
        "AutoModelForTokenClassification": "modeling:ModernBertForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling:ModernBertForQuestionAnswering",
        "AutoModelForMultipleChoice": "modeling:ModernBertForMultipleChoice",
    },
    exports=("modeling:ModernBertPreTrainedModel",),
    tiny={
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "local_attention": 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
)
