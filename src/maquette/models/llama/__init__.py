from maquette.registry import ModelEntry

TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 32,
}


SENTENCEPIECE = (None, "tokenization:LlamaTokenizerFast")
BYTE_LEVEL = ("tokenization:Qwen2Tokenizer", "tokenization:Qwen2TokenizerFast")


def _card(model_type: str, name: str, *, tokenizer: tuple[str | None, str], **tiny: object) -> ModelEntry:
    """Describe one of the family; all have the same heads."""
    return ModelEntry(
        package=__name__,
        model_type=model_type,
        config=f"configuration:{name}Config",
        models={
            "AutoModel": f"modeling:{name}Model",
            "AutoModelForCausalLM": f"modeling:{name}ForCausalLM",
            "AutoModelForSequenceClassification": f"modeling:{name}ForSequenceClassification",
            "AutoModelForTokenClassification": f"modeling:{name}ForTokenClassification",
            "AutoModelForQuestionAnswering": f"modeling:{name}ForQuestionAnswering",
        },
        tokenizer=tokenizer,
        exports=(f"modeling:{name}PreTrainedModel", *(["tokenization:LlamaTokenizer"] if name == "Llama" else [])),
        tiny={**TINY, **tiny},
    )


CARDS = (
    _card("llama", "Llama", tokenizer=SENTENCEPIECE),
    _card("mistral", "Mistral", tokenizer=SENTENCEPIECE, sliding_window=3),
    _card("qwen2", "Qwen2", tokenizer=BYTE_LEVEL, use_sliding_window=True, sliding_window=3, max_window_layers=1),
    _card("qwen3", "Qwen3", tokenizer=BYTE_LEVEL),
)
