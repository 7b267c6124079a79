"""A tokenizer of bytes, for texts of every kind: each text has its ids, and each token its place."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from maquette import PreTrainedTokenizerFast

MARKS = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"]


def make_byte_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """Make one with begin, end and padding tokens, and the marks of conversations."""
    bytes_ = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(bytes_, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    names = ["input_ids", "attention_mask"]
    settings: dict[str, Any] = {**special, "additional_special_tokens": MARKS, "model_input_names": names, **options}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)
