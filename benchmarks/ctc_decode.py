"""Reading 1,000 utterances from the ids that a CTC model gives: maquette's tokenizer and the peer's in turn.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/ctc_decode.py [--pairs 3] [--utterances 1000] [--profile]

Utterances have 50 to 750 frames (1 to 15 seconds) and a vocabulary of 32. Their letters are drawn as often as English
has them; each lasts one or two frames, with none to four blanks behind it, at least one before the same letter. A run
is a process of its own; what the two give is compared, offsets included.
"""

import argparse
import cProfile
import hashlib
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
# How often the word boundary and the letters stand in English text, in percent, in the order of TOKENS[4:].
SHARES = [18, 10.4, 7.3, 6.6, 6.2, 5.8, 5.7, 5.2, 5, 4.9, 3.5, 3.3, 2.3, 2, 1.9, 2.2, 1.8, 1.6, 1.6, 1.5, 1.2]
SHARES += [0.8, 0.6, 0.4, 0.2, 0.1, 0.1, 0.1]
TITLES = {
    "array": "text, from a padded numpy array",
    "tensor": "text, from a padded torch tensor",
    "lists": "text, from lists",
    "characters": "… with the characters' offsets",
    "words": "… with the words' offsets",
    "both": "… with both",
    "one": "one utterance of 400 frames",
    "one_words": "… with the words' offsets",
}


def utterance(dice: np.random.Generator, length: int) -> list[int]:
    letters = dice.choice(np.arange(4, len(TOKENS)), size=length, p=np.array(SHARES) / sum(SHARES)).tolist()
    lasting, blanks = dice.integers(1, 3, length).tolist(), dice.integers(0, 5, length).tolist()
    row: list[int] = []
    for place, letter in enumerate(letters):
        least = int(place + 1 < length and letters[place + 1] == letter)
        row += [letter] * lasting[place] + [0] * max(blanks[place], least)
        if len(row) >= length:
            break
    return row[:length]


def utterances(count: int) -> list[list[int]]:
    dice = np.random.default_rng(0)
    return [utterance(dice, length) for length in dice.integers(50, 751, count).tolist()]


def load(kind: str, vocabulary: str) -> Any:
    if kind == "peer":
        from transformers import Wav2Vec2CTCTokenizer
    else:
        from maquette.models.wav2vec2.tokenization import Wav2Vec2CTCTokenizer
    return Wav2Vec2CTCTokenizer(vocabulary)


def median_time(action: Callable[[], Any], *, times: int = 3, repeat: int = 1) -> float:
    action()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        for _ in range(repeat):
            action()
        found.append((time.perf_counter() - start) / repeat)
    return statistics.median(found)


def work(kind: str, folder: str, *, profile: bool) -> None:
    import torch

    rows = json.loads(Path(folder, "rows.json").read_text(encoding="utf-8"))
    array = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for place, row in enumerate(rows):
        array[place, : len(row)] = row
    tokenizer, tensor, one = load(kind, str(Path(folder, "vocab.json"))), torch.from_numpy(array), (rows[0] * 10)[:400]
    decode, both = tokenizer.batch_decode, {"output_char_offsets": True, "output_word_offsets": True}
    if profile:
        with cProfile.Profile() as measured:
            decode(rows, **both)
        pstats.Stats(measured).sort_stats("tottime").print_stats(12)
        return
    found: dict[str, Any] = {
        "array": median_time(lambda: decode(array)),
        "tensor": median_time(lambda: decode(tensor)),
        "lists": median_time(lambda: decode(rows)),
        "characters": median_time(lambda: decode(rows, output_char_offsets=True)),
        "words": median_time(lambda: decode(rows, output_word_offsets=True)),
        "both": median_time(lambda: decode(rows, **both)),
        "one": median_time(lambda: tokenizer.decode(one), repeat=100),
        "one_words": median_time(lambda: tokenizer.decode(one, output_word_offsets=True), repeat=100),
    }
    output = decode(rows, **both)
    told = json.dumps([output.text, output.char_offsets, output.word_offsets, decode(array)], default=int)
    found["told"] = hashlib.sha256(told.encode()).hexdigest()
    print("RESULT", json.dumps(found))


def measure(kind: str, folder: str, python: str) -> dict[str, Any]:
    command = [python, __file__, "--worker", kind, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return found


def table(rounds: list[dict[str, dict[str, Any]]]) -> None:
    print("| | maquette | the peer | peer : maquette |\n| --- | --- | --- | --- |")
    for name, title in TITLES.items():
        times = [f"{1000 * statistics.median(r[kind][name] for r in rounds):.3g} ms" for kind in ("maquette", "peer")]
        ratio = statistics.median(r["peer"][name] / r["maquette"][name] for r in rounds)
        print(f"| {title} | " + " | ".join([*times, f"{ratio:.1f}"]) + " |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--utterances", type=int, default=1000)
    options.add_argument("--profile", action="store_true", help="show where our time goes, and stop")
    options.add_argument("--worker", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, profile=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = utterances(chosen.utterances)
        Path(folder, "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        vocabulary = {token: index for index, token in enumerate(TOKENS)}
        Path(folder, "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        print(f"{len(rows)} utterances, {sum(map(len, rows))} frames, a vocabulary of {len(TOKENS)}\n")
        if chosen.profile:
            work("maquette", folder, profile=True)
            return
        interpreters = {"peer": os.environ["MAQUETTE_PEER_PYTHON"], "maquette": sys.executable}
        rounds = []
        for _ in range(chosen.pairs):
            rounds.append({kind: measure(kind, folder, python) for kind, python in interpreters.items()})
            if rounds[-1]["peer"]["told"] != rounds[-1]["maquette"]["told"]:
                raise RuntimeError("The two give different texts or offsets.")
        table(rounds)


if __name__ == "__main__":
    main()
