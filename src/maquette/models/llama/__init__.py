from maquette.registry import ModelCard

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


def _card(model_type: str, name: str, *, tokenizer: str | None = None, **tiny: object) -> ModelCard:
    """Describe one of the family; all have the same heads."""
    return ModelCard(
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
        tokenizer=(f"tokenization:{tokenizer}", f"tokenization:{tokenizer}Fast") if tokenizer else (None, None),
        exports=(f"modeling:{name}PreTrainedModel",),
        tiny={**TINY, **tiny},
    )


CARDS = (
    _card("llama", "Llama"),
    _card("mistral", "Mistral", sliding_window=3),
    _card("qwen2", "Qwen2", tokenizer="Qwen2Tokenizer", use_sliding_window=True, sliding_window=3, max_window_layers=1),
    _card("qwen3", "Qwen3", tokenizer="Qwen2Tokenizer"),
)
