from maquette.registry import ModelEntry

CARD = ModelEntry(
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
        "TFAutoModel": "modeling_tf:TFDistilBertModel",
        "TFAutoModelForMaskedLM": "modeling_tf:TFDistilBertForMaskedLM",
        "TFAutoModelForSequenceClassification": "modeling_tf:TFDistilBertForSequenceClassification",
        "TFAutoModelForQuestionAnswering": "modeling_tf:TFDistilBertForQuestionAnswering",
        "TFAutoModelForTokenClassification": "modeling_tf:TFDistilBertForTokenClassification",
        "TFAutoModelForMultipleChoice": "modeling_tf:TFDistilBertForMultipleChoice",
        "FlaxAutoModel": "modeling_flax:FlaxDistilBertModel",
        "FlaxAutoModelForMaskedLM": "modeling_flax:FlaxDistilBertForMaskedLM",
        "FlaxAutoModelForSequenceClassification": "modeling_flax:FlaxDistilBertForSequenceClassification",
        "FlaxAutoModelForQuestionAnswering": "modeling_flax:FlaxDistilBertForQuestionAnswering",
        "FlaxAutoModelForTokenClassification": "modeling_flax:FlaxDistilBertForTokenClassification",
        "FlaxAutoModelForMultipleChoice": "modeling_flax:FlaxDistilBertForMultipleChoice",
    },
    tokenizer=("tokenization:DistilBertTokenizer", "tokenization:DistilBertTokenizerFast"),
    exports=(
        "modeling:DistilBertPreTrainedModel",
        "modeling_tf:TFDistilBertPreTrainedModel",
        "modeling_flax:FlaxDistilBertPreTrainedModel",
    ),
    tiny={"vocab_size": 40, "dim": 16, "n_heads": 4, "n_layers": 2, "hidden_dim": 24, "max_position_embeddings": 16},
)
