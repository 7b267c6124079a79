from maquette.registry import ModelEntry

TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 32,
    "query_pre_attn_scalar": 8,
    "sliding_window": 3,
}

CARDS = (
    ModelEntry(
        package=__name__,
        model_type="gemma2",
        config="configuration:Gemma2Config",
        models={
            "AutoModel": "modeling:Gemma2Model",
            "AutoModelForCausalLM": "modeling:Gemma2ForCausalLM",
            "AutoModelForSequenceClassification": "modeling:Gemma2ForSequenceClassification",
            "AutoModelForTokenClassification": "modeling:Gemma2ForTokenClassification",
        },
        tokenizer=(None, "tokenization:GemmaTokenizerFast"),
        exports=("modeling:Gemma2PreTrainedModel", "tokenization:GemmaTokenizer"),
        tiny=TINY,
    ),
    ModelEntry(
        package=__name__,
        model_type="gemma3_text",
        config="configuration:Gemma3TextConfig",
        models={
            "AutoModel": "modeling:Gemma3TextModel",
            "AutoModelForCausalLM": "modeling:Gemma3ForCausalLM",
            "AutoModelForSequenceClassification": "modeling:Gemma3TextForSequenceClassification",
        },
        tokenizer=(None, "tokenization:GemmaTokenizerFast"),
        exports=("modeling:Gemma3PreTrainedModel",),
        tiny={**TINY, "sliding_window_pattern": 2},
    ),
)
