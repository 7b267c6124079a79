from maquette.registry import ModelCard

CARD = ModelCard(
    package=__name__,
    model_type="distilbert",
    config="configuration:DistilBertConfig",
    models={
        "AutoModel": "modeling:DistilBertModel",
        "AutoModelForMaskedLM": "modeling:DistilBertForMaskedLM",
        "AutoModelForSequenceClassification": "modeling:DistilBertForSequenceClassification",
        "AutoModelForQuestionAnswering": "modeling:DistilBertForQuestionAnswering",
        "AutoModelForTokenClassification": "modeling:DistilBertForTokenClassification",
        "AutoModelForMultipleChoice": "modeling:DistilBertForMultipleChoice",
    },
    tokenizer=("tokenization:DistilBertTokenizer", "tokenization:DistilBertTokenizerFast"),
    exports=("modeling:DistilBertPreTrainedModel",),
    tiny={"vocab_size": 40, "dim": 16, "n_heads": 4, "n_layers": 2, "hidden_dim": 24, "max_position_embeddings": 16},
)
