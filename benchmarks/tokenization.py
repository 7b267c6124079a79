"""Tokenizing 8,000 paragraphs, and one: maquette's two kinds and the peer's in turn, each run a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/tokenization.py [--pairs 3] [--cores 1] [--profile] [--bpe]

The paragraphs are Python's own: the language reference that `pydoc` shows, and the documentation strings of the
standard library and numpy; the 8,000 longest, in their order (about 2.3 MB, 2 % of them not ASCII). The vocabulary,
30,522 tokens, is trained with the `tokenizers` library on all of those strings and torch's and sympy's; with `--bpe`,
50,257 tokens of byte-level BPE instead of WordPiece. Every process loads the same files, and the ids that the kinds
give are compared.
"""

import argparse
import ast
import cProfile
import hashlib
import importlib
import json
import os
import pstats
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PARAGRAPHS = 8000
SHORT = "Hello world, how are you?"
TITLES = {
    "pt": "8,000 paragraphs to padded torch tensors",
    "np": "8,000 paragraphs to padded numpy arrays",
    "lists": "8,000 paragraphs to lists, warm",
    "one": "one short text to lists",
    "one_pt": "one short text to torch tensors",
}
# Languages of the guides that lie beside the checkout; their lines are measured where they are there.
GUIDES = {"000": "English", "001": "Japanese", "002": "Portuguese", "004": "Spanish"}
GUIDES_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "guides"
TITLES |= {number: f"the guide in {language}, its lines to lists, warm" for number, language in GUIDES.items()}
KINDS = {"peer": "the peer's, in Rust", "legacy": "the peer's, in Python", "python": "Python", "rust": "Rust"}


def documentation(*packages: str) -> Iterator[str]:
    """Give the texts of pydoc's topics, then every documentation string of the standard library and of packages."""
    import pydoc_data.topics

    yield from (text for _, text in sorted(pydoc_data.topics.topics.items()))
    folders = [Path(importlib.import_module(package).__file__ or "").parent for package in packages]
    for root in (Path(sysconfig.get_paths()["stdlib"]), *folders):
        for path in sorted(root.rglob("*.py")):
            if {"site-packages", "test", "tests"} & {*path.relative_to(root).parts}:
                continue
            try:
                nodes = list(ast.walk(ast.parse(path.read_bytes())))
            except (SyntaxError, ValueError):
                continue
            documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            yield from (ast.get_docstring(node) or "" for node in nodes if isinstance(node, documented))


def paragraphs() -> list[str]:
    pieces = (" ".join(piece.split()) for text in documentation("numpy") for piece in re.split(r"\n\s*\n", text))
    distinct = list(dict.fromkeys(pieces))
    shortest = sorted(map(len, distinct), reverse=True)[:PARAGRAPHS][-1]
    return [piece for piece in distinct if len(piece) >= shortest][:PARAGRAPHS]


def train(path: Path) -> int:
    """Train a vocabulary of the size of BERT's, on more text than is tokenized: that does not yield as many tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=30522, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(documentation("numpy", "torch", "sympy"), trainer)
    vocabulary = tokenizer.get_vocab()
    path.write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__)), encoding="utf-8")
    return len(vocabulary)


def train_bpe(folder: Path) -> int:
    """Train a vocabulary and merges of the size of GPT-2's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    options: dict[str, Any] = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=50257, special_tokens=["<|endoftext|>"], **options)
    tokenizer.train_from_iterator(documentation("numpy", "torch", "sympy"), trainer)
    tokenizer.model.save(str(folder))
    return tokenizer.get_vocab_size()


def load_bpe(kind: str, folder: Path) -> Any:
    vocabulary, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    special: dict[str, Any] = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "model_max_length": 1024}
    if kind == "peer":
        from transformers import GPT2Tokenizer

        return GPT2Tokenizer(vocab=vocabulary, merges=merges, **special)
    from maquette import ByteLevelBPETokenizer, ByteLevelBPETokenizerFast

    return {"python": ByteLevelBPETokenizer, "rust": ByteLevelBPETokenizerFast}[kind](vocabulary, merges, **special)


def load(kind: str, folder: Path) -> Any:
    if (folder / "merges.txt").exists():
        return load_bpe(kind, folder)
    vocabulary = str(folder / "vocab.txt")
    if kind == "peer":
        from transformers import DistilBertTokenizer

        return DistilBertTokenizer(vocab=vocabulary, model_max_length=512)
    if kind == "legacy":
        from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

        return BertTokenizerLegacy(vocabulary, model_max_length=512)
    from maquette.models.distilbert.tokenization import DistilBertTokenizer, DistilBertTokenizerFast

    return {"python": DistilBertTokenizer, "rust": DistilBertTokenizerFast}[kind](vocabulary)


def median_time(action: Callable[[], Any], *, times: int, repeat: int = 1) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        for _ in range(repeat):
            action()
        found.append((time.perf_counter() - start) / repeat)
    return statistics.median(found)


def work(kind: str, folder: str, *, profile: bool) -> None:
    texts = json.loads(Path(folder, "texts.json").read_text(encoding="utf-8"))
    tokenizer = load(kind, Path(folder))
    padded: dict[str, Any] = {"padding": True, "truncation": True}
    import torch  # noqa: F401 - not to be timed

    if profile:
        tokenizer(texts, return_tensors="pt", **padded)
        with cProfile.Profile() as measured:
            tokenizer(texts, return_tensors="pt", **padded)
        pstats.Stats(measured).sort_stats("tottime").print_stats(15)
        return
    slow = 1 if kind == "legacy" else 3
    found: dict[str, Any] = {"pt": median_time(lambda: tokenizer(texts, return_tensors="pt", **padded), times=slow)}
    found["np"] = median_time(lambda: tokenizer(texts, return_tensors="np", **padded), times=slow)
    found["lists"] = median_time(lambda: tokenizer(texts, truncation=True), times=slow)
    found["one"] = median_time(lambda: tokenizer(SHORT), times=5, repeat=500)
    found["one_pt"] = median_time(lambda: tokenizer(SHORT, return_tensors="pt"), times=5, repeat=500)
    for number in GUIDES:
        for path in GUIDES_FOLDER.glob(f"{number}_*.txt"):
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            found[number] = median_time(lambda lines=lines: tokenizer(lines, truncation=True), times=15)
    rows = tokenizer(texts, truncation=True)["input_ids"]
    found["ids"] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    print("RESULT", json.dumps(found))


def measure(kind: str, folder: str, python: str, *, cores: str | None) -> dict[str, Any]:
    command = [python, __file__, "--worker", kind, folder]
    environment = {**os.environ, **({"RAYON_NUM_THREADS": cores} if cores else {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return found


def table(rounds: list[dict[str, dict[str, Any]]]) -> None:
    kinds = list(rounds[0])
    print("| | " + " | ".join(KINDS[kind] for kind in kinds) + " | peer : Python | peer : Rust |")
    print("| --- " * (len(kinds) + 3) + "|")
    for name, title in TITLES.items():
        if name not in rounds[0]["peer"]:
            continue
        times = [f"{1000 * statistics.median(one[kind][name] for one in rounds):.3g} ms" for kind in kinds]
        ratios = [
            f"{statistics.median(one['peer'][name] / one[kind][name] for one in rounds):.1f}"
            for kind in ("python", "rust")
        ]
        print(f"| {title} | " + " | ".join([*times, *ratios]) + " |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--cores", help="how many threads the Rust library may use; all, unless given")
    options.add_argument("--profile", action="store_true", help="show where the time of both kinds goes, and stop")
    options.add_argument("--bpe", action="store_true", help="byte-level BPE instead of WordPiece")
    options.add_argument("--worker", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, profile=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        texts = paragraphs()
        Path(folder, "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        size = train_bpe(Path(folder)) if chosen.bpe else train(Path(folder, "vocab.txt"))
        other = sum(not text.isascii() for text in texts)
        print(f"{len(texts)} paragraphs, {sum(map(len, texts)) / 1e6:.2f} MB, {other} not ASCII; {size} tokens\n")
        if chosen.profile:
            for kind in ("python", "rust"):
                work(kind, folder, profile=True)
            return
        peer = os.environ["MAQUETTE_PEER_PYTHON"]
        interpreters = {"peer": peer, "legacy": peer, "python": sys.executable, "rust": sys.executable}
        if chosen.bpe:
            del interpreters["legacy"]  # there is none
        rounds = []
        for _ in range(chosen.pairs):
            rounds.append(
                {kind: measure(kind, folder, python, cores=chosen.cores) for kind, python in interpreters.items()}
            )
            ids = {kind: found["ids"] for kind, found in rounds[-1].items() if kind != "legacy"}
            if len({*ids.values()}) > 1:
                raise RuntimeError(f"The kinds give different ids: {ids}")
        table(rounds)


if __name__ == "__main__":
    main()
