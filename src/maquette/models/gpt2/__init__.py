from maquette.registry import ModelEntry

CARD = ModelEntry(
    package=__name__,
    model_type="gpt2",
    config="configuration:GPT2Config",
    models={
        "AutoModel": "modeling:GPT2Model",
        "AutoModelForCausalLM": "modeling:GPT2LMHeadModel",
        "AutoModelForSequenceClassification": "modeling:GPT2ForSequenceClassification",
        "AutoModelForTokenClassification": "modeling:GPT2ForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling:GPT2ForQuestionAnswering",
    },
    tokenizer=("tokenization:GPT2Tokenizer", "tokenization:GPT2TokenizerFast"),
    exports=("modeling:GPT2PreTrainedModel",),
    tiny={
        "vocab_size": 40,
        "n_embd": 16,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 16,
        "bos_token_id": 39,
        "eos_token_id": 39,
    },
)
