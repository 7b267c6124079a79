"""Functions on logits that both libraries have, by class and arguments; read by both interpreters."""

from typing import Any

import numpy as np

ROWS, WIDTH, VOCABULARY = 4, 9, 43
LENGTHS = [9, 3, 1, 6]  # of the ragged rows
ENDS = [3, 5]

# class, arguments by place
CASES: dict[str, tuple[str, list[Any]]] = {
    "temperature": ("TemperatureLogitsWarper", [0.7]),
    "top-k": ("TopKLogitsWarper", [5]),
    "top-k beyond": ("TopKLogitsWarper", [100]),
    "top-k keep": ("TopKLogitsWarper", [2, -99.0, 4]),
    "top-p": ("TopPLogitsWarper", [0.8]),
    "top-p nothing": ("TopPLogitsWarper", [0.0]),
    "top-p keep": ("TopPLogitsWarper", [0.1, -99.0, 3]),
    "top-h": ("TopHLogitsWarper", [0.4]),
    "min-p": ("MinPLogitsWarper", [0.1]),
    "min-p keep": ("MinPLogitsWarper", [0.99, -99.0, 3]),
    "typical": ("TypicalLogitsWarper", [0.6]),
    "typical keep": ("TypicalLogitsWarper", [0.05, -99.0, 3]),
    "epsilon": ("EpsilonLogitsWarper", [0.03]),
    "epsilon keep": ("EpsilonLogitsWarper", [0.9, -99.0, 3]),
    "eta": ("EtaLogitsWarper", [0.04]),
    "eta keep": ("EtaLogitsWarper", [0.9, -99.0, 3]),
    "repetition": ("RepetitionPenaltyLogitsProcessor", [1.3]),
    "repetition less": ("RepetitionPenaltyLogitsProcessor", [0.8]),
    "repetition but the start": ("RepetitionPenaltyLogitsProcessor", [1.3, 2]),
    "bigrams": ("NoRepeatNGramLogitsProcessor", [2]),
    "unigrams": ("NoRepeatNGramLogitsProcessor", [1]),
    "trigrams": ("NoRepeatNGramLogitsProcessor", [3]),
    "bias": ("SequenceBiasLogitsProcessor", [[[[4], 2.0], [[1, 2], -3.0], [[2, 0], 5.0], [[0, 1, 6], 1.5]]]),
    "bad words": ("NoBadWordsLogitsProcessor", [[[4], [1, 2], [0, 6], [2, 1, 7], [3]], ENDS]),
    "least length": ("MinLengthLogitsProcessor", [5, ENDS]),
    "least new": ("MinNewTokensLengthLogitsProcessor", [0, 5, ENDS]),
    "forced begin": ("ForcedBOSTokenLogitsProcessor", [8]),
    "forced end": ("ForcedEOSTokenLogitsProcessor", [10, ENDS]),
    "invalid": ("InfNanRemoveLogitsProcessor", []),
    "decay": ("ExponentialDecayLengthPenalty", [[2, 1.3], ENDS, 0]),
    "suppressed": ("SuppressTokensLogitsProcessor", [[1, 7]]),
    "suppressed at the start": ("SuppressTokensAtBeginLogitsProcessor", [[1, 7], 3]),
    "normalised": ("LogitNormalization", []),
    "watermark": ("WatermarkLogitsProcessor", [VOCABULARY, "cpu", 0.4, 1.5]),
    "watermark of itself": ("WatermarkLogitsProcessor", [VOCABULARY, "cpu", 0.4, 1.5, 15485863, "selfhash", 3]),
}

KEYS = [654, 400, 836, 123, 340, 443, 597, 160, 57]
# SynthID, step by step: n-gram, keys, size and seed of the table, contexts remembered, device, skip, debug
STEPS: dict[str, list[Any]] = {
    "plain": [3, KEYS, 2**10, 0, 1024, "cpu"],
    "short memory": [2, KEYS[:4], 2**10, 1, 2, "cpu"],
    "late": [4, KEYS, 2**16, 0, 8, "cpu", True],
    "uniform": [3, KEYS, 2**10, 0, 1024, "cpu", False, True],
}
STEPS_PROMPT = 2  # of the tokens, the rest of which is generated

# settings of whole chains
CHAINS: dict[str, dict[str, Any]] = {
    "sampling": {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.9},
    "all of sampling": {"do_sample": True, "temperature": 1.4, "top_h": 0.9, "top_k": 12, "top_p": 0.95}
    | {"min_p": 0.01, "typical_p": 0.9, "epsilon_cutoff": 0.01, "eta_cutoff": 0.02},
    "sampled beams": {"do_sample": True, "num_beams": 3, "top_k": 1, "temperature": 0.9},
    "penalties": {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "bad_words_ids": [[4], [1, 2]]}
    | {"sequence_bias": [[[0, 1], 3.0], [[9], -1.0]], "renormalize_logits": True},
    "tokens": {"suppress_tokens": [2, 9], "begin_suppress_tokens": [8], "min_length": 8, "forced_eos_token_id": 3}
    | {"remove_invalid_values": True, "max_length": 10},
    "lengths": {"min_new_tokens": 2, "exponential_decay_length_penalty": [0, 1.2], "max_new_tokens": 5},
    "watermark": {"do_sample": True, "top_k": 10, "watermarking_config": {"bias": 1.5, "greenlist_ratio": 0.5}},
    "synthid": {"do_sample": True, "top_k": 10, "watermarking_config": {"ngram_len": 3, "keys": KEYS}},
    "nothing": {},
}

# What is written to files, both ways.
SETTINGS: dict[str, dict[str, Any]] = {
    "sampling": {"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.95},
    "beams": {"num_beams": 4, "num_return_sequences": 3, "length_penalty": -0.5, "early_stopping": "never"},
    "tokens": {"eos_token_id": [2, 7], "pad_token_id": 0, "bos_token_id": 1, "suppress_tokens": [5, 6]},
    "words": {
        "bad_words_ids": [[3], [4, 5]],
        "sequence_bias": [[[8], 1.5], [[9, 10], -2.0]],
        "stop_strings": ["a", "b"],
    },
    "lengths": {
        "max_new_tokens": 5,
        "min_new_tokens": 2,
        "exponential_decay_length_penalty": [3, 1.1],
        "max_time": 2.5,
    },
    "drafts": {"num_assistant_tokens": 4, "prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 3},
    "outputs": {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "use_cache": False},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "epsilon_cutoff": 0.0, "guidance_scale": 1.5},
}
OWN = {"own": {"do_sample": True, "seed": 3, "max_rows": 4, "frequency_penalty": 0.5, "presence_penalty": -0.5}}
FOREIGN = {"foreign": {"lang_to_id": {"<|de|>": 3}, "is_multilingual": True, "max_length": 9}}


def make_inputs() -> tuple[Any, Any]:
    """Give ids and scores, `(ROWS, WIDTH)` and `(ROWS, VOCABULARY)`."""
    random = np.random.default_rng(5)
    ids = random.integers(0, 9, (ROWS, WIDTH))  # few different ones, so that n-grams repeat
    ids[0, -3:] = [0, 1, 2]
    ids[0, :3] = [0, 1, 2]
    ids[1, :3] = [1, 2, 1]
    scores = random.normal(0, 2.5, (ROWS, VOCABULARY)).astype(np.float32)
    scores[1, 10:14] = scores[1, 10]  # ties
    scores[2, 20] = -np.inf
    return ids, scores
