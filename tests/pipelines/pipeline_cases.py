"""What both libraries' pipelines are asked: for each case the task, the folder, the inputs and the options.

Both interpreters read this file, so it imports neither library.
"""

from pathlib import Path
from typing import Any

import numpy as np

TEXTS = ["The cats sat on the mat.", "a dog!", "dogs, cats, a mat on the dog sat. The unknown", "cats"]
MASKED = ["the [MASK] sat on a mat.", "a [MASK]", "[MASK] cats sat [MASK] the dogs"]
LONG = "the cats sat on the mat, a dog sat on cats. " * 6


def cases(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Give the cases: task, folder, options of the pipeline, inputs, options of the call."""
    images = [str(folder / f"{name}.png") for name in ("red", "noise")]
    sounds = [np.load(folder / f"{name}.npy") for name in ("long", "short")]
    apart = {"array": sounds[1], "sampling_rate": 16000}
    raw = {"raw": sounds[0], "sampling_rate": 16000, "speaker": "ada"}
    found: dict[str, tuple[Any, ...]] = {
        "text": ("text-classification", "classes", {}, TEXTS[0], {}),
        "texts": ("sentiment-analysis", "classes", {}, TEXTS, {}),
        "one text in a list": ("text-classification", "classes", {}, TEXTS[:1], {}),
        "text, all": ("text-classification", "classes", {}, TEXTS[0], {"top_k": None}),
        "texts, two": ("text-classification", "classes", {}, TEXTS, {"top_k": 2}),
        "text, one": ("text-classification", "classes", {}, TEXTS[0], {"top_k": 1}),
        "text, two from the start": ("text-classification", "classes", {"top_k": 2}, TEXTS[0], {}),
        "text, none": ("text-classification", "classes", {}, TEXTS, {"function_to_apply": "none", "top_k": 3}),
        "text, sigmoid": ("text-classification", "classes", {"function_to_apply": "sigmoid"}, TEXTS, {"top_k": 3}),
        "text, cut": ("text-classification", "classes", {}, LONG, {"truncation": True, "max_length": 8}),
        "pair": ("text-classification", "classes", {}, {"text": TEXTS[0], "text_pair": TEXTS[1]}, {}),
        "pairs": ("text-classification", "classes", {}, [{"text": TEXTS[0], "text_pair": TEXTS[1]}], {}),
        "old pair": ("text-classification", "classes", {}, [[[TEXTS[0], TEXTS[1]]]], {}),
        "regression": ("text-classification", "regression", {}, TEXTS, {}),
        "several labels": ("text-classification", "several", {}, TEXTS, {"top_k": None}),
        "one label": ("text-classification", "one", {}, TEXTS, {}),
        "zero-shot": ("zero-shot-classification", "classes", {}, TEXTS[0], {"candidate_labels": "cat, dog, mat"}),
        "zero-shot, several": (
            "zero-shot-classification",
            "classes",
            {},
            TEXTS,
            {"candidate_labels": ["cat", "the dog"], "multi_label": True, "hypothesis_template": "a {} sat."},
        ),
        "zero-shot, one": ("zero-shot-classification", "classes", {}, TEXTS[:2], {"candidate_labels": ["cat"]}),
        "mask": ("fill-mask", "masked", {}, MASKED[0], {}),
        "masks": ("fill-mask", "masked", {}, MASKED, {"top_k": 3}),
        "one mask in a list": ("fill-mask", "masked", {"top_k": 2}, MASKED[:1], {}),
        "targets": ("fill-mask", "masked", {}, MASKED, {"targets": ["cat", "dog", "mats"]}),
        "target": ("fill-mask", "masked", {}, MASKED[1], {"targets": "cat"}),
        "features": ("feature-extraction", "base", {}, TEXTS[:2], {}),
        "feature": ("feature-extraction", "base", {}, TEXTS[0], {"truncation": True}),
        "image": ("image-classification", "vit", {}, images[0], {}),
        "images": ("image-classification", "resnet", {}, images, {"top_k": 2}),
        "images, sigmoid": ("image-classification", "vit", {}, images, {"function_to_apply": "sigmoid"}),
        "image, unseen classes": (
            "zero-shot-image-classification",
            "clip",
            {},
            images[0],
            {"candidate_labels": ["cat", "the dog sat", "mat"]},
        ),
        "images, unseen classes": (
            "zero-shot-image-classification",
            "clip",
            {},
            images,
            {"candidate_labels": ["a cat", "dogs"], "hypothesis_template": "the {}"},
        ),
        "images, each class by itself": (
            "zero-shot-image-classification",
            "siglip",
            {},
            images,
            {"candidate_labels": ["a cat", "dogs"]},
        ),
        "image features": ("image-feature-extraction", "vit-base", {}, images[0], {}),
        "image, pooled": ("image-feature-extraction", "vit-base", {}, images, {"pool": True}),
        "sound": ("audio-classification", "sounds", {}, sounds[0], {}),
        "sounds": ("audio-classification", "sounds", {}, sounds, {"top_k": 2}),
        "sound, all": ("audio-classification", "sounds", {}, apart, {"top_k": None, "function_to_apply": "none"}),
        "speech": ("automatic-speech-recognition", "speech", {}, sounds[0], {}),
        "speeches": ("automatic-speech-recognition", "speech", {}, sounds, {"return_timestamps": "char"}),
        "speech, words": ("automatic-speech-recognition", "speech", {}, raw, {"return_timestamps": "word"}),
        "speech, stride": (
            "automatic-speech-recognition",
            "speech",
            {},
            {**apart, "stride": (160, 310)},
            {"return_timestamps": "char"},
        ),
    }
    greedy = {"do_sample": False, "max_new_tokens": 12}
    asked = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    said = [{"role": "user", "content": "Hi, who is there?"}]
    begun = [*said, {"role": "assistant", "content": "It is"}]
    for name, inputs, options in (
        ("text", "Hello, you", {}),
        ("texts", ["Hello, you", "a", "something that is longer"], {}),
        ("new text", ["Hello, you", "a"], {"return_full_text": False}),
        ("ids", "Hello, you", {"return_tensors": True}),
        ("longer", "Hello, you", {"max_new_tokens": 60}),
        ("in all", "Hello, you", {"max_new_tokens": None, "max_length": 20}),
        ("penalties", "Hello, you", {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}),
        ("beams", ["Hello, you", "a"], {"num_beams": 3, "num_return_sequences": 2}),
        ("prefix", "Hello, you", {"prefix": "<s>Well. "}),
        ("prefix, in all", "Hello, you", {"prefix": "Well. ", "max_new_tokens": None, "max_length": 20}),
        ("cut to a length", ["Hello, you", "a"], {"truncation": True, "max_length": 4}),
        ("scores", "Hello, you", {**asked, "max_new_tokens": 3}),
        ("scores of beams", "Hello, you", {**asked, "num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 3}),
        ("special tokens", "Hello, you", {"skip_special_tokens": False, "max_new_tokens": 60}),
        ("chat", said, {}),
        ("chat goes on", begun, {}),
        ("chat does not go on", begun, {"continue_final_message": False}),
        ("chats", [said, begun, said], {"return_full_text": False}),
        ("documents", said, {"documents": [{"title": "One", "text": "first"}]}),
    ):
        found[f"generation, {name}"] = ("text-generation", "decoder", {}, inputs, {**greedy, **options})
    for length, stride in ((0.05, None), (0.1, 0.01), (0.08, (0.02, 0.0)), (1.0, None)):
        options = {"chunk_length_s": length, "stride_length_s": stride, "return_timestamps": "char"}
        found[f"speech in pieces of {length}"] = ("automatic-speech-recognition", "speech", {}, sounds[0], options)
    for strategy in ("none", "simple", "first", "average", "max"):
        options = {"aggregation_strategy": strategy}
        found[f"tokens, {strategy}"] = ("token-classification", "tokens", options, TEXTS, {})
        found[f"tokens, {strategy}, all"] = ("ner", "tokens", {}, TEXTS[2], {**options, "ignore_labels": []})
        words = [text.split() for text in TEXTS]
        split = {**options, "is_split_into_words": True}
        found[f"words, {strategy}"] = ("ner", "tokens", {}, words, split)
        found[f"words, {strategy}, delimited"] = ("ner", "tokens", {}, words[0], {**split, "delimiter": ""})
        if strategy != "none":
            found[f"windows, {strategy}"] = ("ner", "tokens", {"stride": 3}, LONG, options)
    return found


def plain(value: Any) -> Any:
    """Turn an answer into what JSON holds: numpy's numbers into Python's, tuples into lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
