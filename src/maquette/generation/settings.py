"""Every setting of generation, with its type and range; None stands for "nothing is said"."""

from typing import Annotated, Any, Literal

from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Some = Annotated[int, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Cutoff = Annotated[float, Meta(ge=0, lt=1)]
Ids = list[int]


class Settings:
    """The settings, as Transformers names them; `seed`, `max_rows`, `max_cache_memory` and two penalties are added."""

    # How long
    max_length: Some | None = None
    max_new_tokens: Some | None = None
    min_length: Count | None = None
    min_new_tokens: Count | None = None
    early_stopping: bool | Literal["never"] | None = None
    max_time: Positive | None = None
    stop_strings: str | list[str] | None = None
    # Which way
    do_sample: bool | None = None
    num_beams: Some | None = None
    num_beam_groups: Some | None = None
    diversity_penalty: float | None = None
    penalty_alpha: float | None = None
    dola_layers: str | Ids | None = None
    use_mtp: bool | None = None
    seed: Count | None = None
    max_rows: Some | None = None
    max_cache_memory: Some | str | None = None
    # The cache
    use_cache: bool | None = None
    cache_implementation: str | None = None
    cache_config: dict[str, Any] | None = None
    max_cache_len: Some | None = None
    low_memory: bool | None = None
    prefill_chunk_size: Some | None = None
    # Logits
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_k: Count | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    top_h: Annotated[float, Meta(gt=0, le=1)] | None = None
    typical_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    epsilon_cutoff: Cutoff | None = None
    eta_cutoff: Cutoff | None = None
    repetition_penalty: Positive | None = None
    encoder_repetition_penalty: Positive | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    length_penalty: float | None = None
    no_repeat_ngram_size: Count | None = None
    encoder_no_repeat_ngram_size: Count | None = None
    bad_words_ids: list[Annotated[list[Count], Meta(min_length=1)]] | None = None
    sequence_bias: list[tuple[Annotated[list[Count], Meta(min_length=1)], float]] | None = None
    renormalize_logits: bool | None = None
    forced_bos_token_id: Count | None = None
    forced_eos_token_id: int | Ids | None = None
    remove_invalid_values: bool | None = None
    exponential_decay_length_penalty: tuple[Count, Positive] | None = None
    suppress_tokens: Ids | None = None
    begin_suppress_tokens: Ids | None = None
    constraints: list[Any] | None = None
    force_words_ids: list[Any] | None = None
    token_healing: bool | None = None
    guidance_scale: float | None = None
    watermarking_config: dict[str, Any] | None = None
    # What is given back
    num_return_sequences: Some | None = None
    output_attentions: bool | None = None
    output_hidden_states: bool | None = None
    output_scores: bool | None = None
    output_logits: bool | None = None
    return_dict_in_generate: bool | None = None
    # Tokens
    pad_token_id: int | None = None
    bos_token_id: int | Ids | None = None
    eos_token_id: int | Ids | None = None
    decoder_start_token_id: int | Ids | None = None
    # Speech
    language: str | list[str] | None = None
    task: str | None = None
    return_timestamps: bool | None = None
    is_multilingual: bool | None = None
    lang_to_id: dict[str, int] | None = None
    task_to_id: dict[str, int] | None = None
    no_timestamps_token_id: Count | None = None
    max_initial_timestamp_index: Count | None = None
    alignment_heads: list[tuple[Count, Count]] | None = None
    prev_sot_token_id: Count | None = None
    forced_decoder_ids: list[tuple[Count, Count | None]] | None = None
    prompt_condition_type: Literal["first-segment", "all-segments"] | None = None
    condition_on_prev_tokens: bool | None = None
    compression_ratio_threshold: float | None = None
    logprob_threshold: float | None = None
    no_speech_threshold: Share | None = None
    # Drafts
    is_assistant: bool | None = None
    num_assistant_tokens: Some | None = None
    num_assistant_tokens_schedule: Literal["constant", "heuristic", "heuristic_transient"] | None = None
    assistant_confidence_threshold: Share | None = None
    prompt_lookup_num_tokens: Some | None = None
    max_matching_ngram_size: Some | None = None
    assistant_early_exit: Some | None = None
    assistant_lookbehind: Some | None = None
    target_lookbehind: Some | None = None
    assistant_ensemble_weight: float | None = None
    speculation_type: str | None = None
    # The machine
    compile_config: dict[str, Any] | None = None
    disable_compile: bool | None = None
    continuous_batching_config: dict[str, Any] | None = None
