from maquette.registry import ModelEntry

TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32,
}


def _card(model_type: str, name: str, **tiny: object) -> ModelEntry:
    """Describe one of the family; both have the same heads."""
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
        exports=(f"modeling:{name}PreTrainedModel",),
        tiny={**TINY, **tiny},
    )


CARDS = (
    _card("mixtral", "Mixtral", num_local_experts=4),
    _card("qwen3_moe", "Qwen3Moe", num_experts=4, moe_intermediate_size=12, mlp_only_layers=[0]),
)
