from maquette.registry import ModelCard

TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 18,
}


def _name_heads(start: str) -> dict[str, str]:
    """Give what RoBERTa and its relatives have."""
    heads = ("MaskedLM", "CausalLM", "SequenceClassification", "TokenClassification", "QuestionAnswering")
    named = {f"AutoModelFor{head}": f"roberta:{start}For{head}" for head in (*heads, "MultipleChoice")}
    return {"AutoModel": f"roberta:{start}Model", **named}


CARDS = (
    ModelCard(
        package=__name__,
        model_type="bert",
        config="configuration:BertConfig",
        models={
            "AutoModel": "encoder:BertModel",
            "AutoModelForPreTraining": "modeling:BertForPreTraining",
            "AutoModelForMaskedLM": "modeling:BertForMaskedLM",
            "AutoModelForCausalLM": "modeling:BertLMHeadModel",
            "AutoModelForNextSentencePrediction": "modeling:BertForNextSentencePrediction",
            "AutoModelForSequenceClassification": "modeling:BertForSequenceClassification",
            "AutoModelForTokenClassification": "modeling:BertForTokenClassification",
            "AutoModelForQuestionAnswering": "modeling:BertForQuestionAnswering",
            "AutoModelForMultipleChoice": "modeling:BertForMultipleChoice",
        },
        tokenizer=("tokenization:BertTokenizer", "tokenization:BertTokenizerFast"),
        exports=("encoder:BertPreTrainedModel", "modeling:BertForPreTrainingOutput"),
        tiny=TINY,
    ),
    ModelCard(
        package=__name__,
        model_type="roberta",
        config="configuration:RobertaConfig",
        models=_name_heads("Roberta"),
        tokenizer=("tokenization:RobertaTokenizer", "tokenization:RobertaTokenizerFast"),
        exports=("roberta:RobertaPreTrainedModel",),
        tiny=TINY,
    ),
    ModelCard(
        package=__name__,
        model_type="xlm-roberta",
        config="configuration:XLMRobertaConfig",
        models=_name_heads("XLMRoberta"),
        tokenizer=(None, "tokenization:XLMRobertaTokenizerFast"),
        exports=("roberta:XLMRobertaPreTrainedModel", "tokenization:XLMRobertaTokenizer"),
        tiny=TINY,
    ),
)
