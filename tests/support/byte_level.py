"""Hard texts, and small byte-level BPE vocabularies that are trained on them."""

import argparse
import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEXTS = [
    "Hello world, how are you? I'm fine; they'll say we've DON'T it's 'RE.",
    "  two spaces  before\n\nand   after \n \t mixed\t\ttabs \r\n ends  ",
    " leading", "trailing ", "\n", " ", "", "   ", "a", "\u3000wide\u3000 space\u2003 \u2003x \xa0y\xa0 z",
    "日本語のガイドを読みます。独自のモデル、設定!  東京  2024年",
    "한국어 문서와 예제 코드를 읽습니다. 모델을 공유하기",
    "Compartilhe o modelo: ação, coração, João não é só isso…",
    "Configuración rápida: ¿qué tal, señor Ñandú? ¡Olé!",
    "Русский текст — «кавычки», ёлка и 1234567890 раз.",
    "عربي: مرحبا بالعالم ١٢٣ \u200fRTL",
    "emoji 👩‍👩‍👧‍👦👍🏽 🇩🇪 ☃️ and e\u0301 n\u0303o a\u0308\u0323 \u0301 alone",
    "def f(x):\n    return {'a': [x ** 2, -1.5e-10], \"b\": None}  # comment\n\n\nclass A:\n\tpass\n",
    "x=1;y=22;z=333;w=4444;v=55555 ½ Ⅻ ² ५६",
    "'ſ it'S 'Tis K'd I'LL \u017f's",
    "\x00nul\x00 in\x00 text", "\x1c\x1d odd\x1e separators \x1f!\x85 next",
    "https://example.com/a?b=c&d=%20#frag ....... !!!??? --- === ((()))",
    "<|endoftext|>in<|endoftext|> text <|endoftext|>", "a <new> token <new>and <new> end",
    "\U0001d54f\U0001d7d9 math 𐍈 gothic \U000e0041tag \ud7ff\ue000\uffff",
    "Å\u212b ﬁ ﬃ ① ㌔ \ufeffbom",
]  # fmt: skip


@cache
def train(pattern: str | None, size: int = 700) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Train a vocabulary and its merges, cut as GPT-2 does or by a pattern."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cutter(pattern)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options: dict[str, Any] = {"initial_alphabet": alphabet, "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<|endoftext|>"], **options)
    tokenizer.train_from_iterator([*TEXTS, inspect.getsource(argparse)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def cutter(pattern: str | None, *, prefix: bool = False) -> Any:
    from tokenizers import Regex

    if pattern is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)])


def write(folder: Path, pattern: str | None = None) -> tuple[str, str]:
    """Write `vocab.json` and `merges.txt`; gives their paths."""
    vocabulary, merges = train(pattern)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "vocab.json"), str(folder / "merges.txt")
