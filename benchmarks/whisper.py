"""Speech to text with Whisper of tiny size: maquette and the peer in turn, each run a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/whisper.py [--rounds 3] [--threads 1] [--clips 16]

16 clips of 2 to 30 seconds, in no order, are made into features and written down, greedily, language and task said. The
model has random weights (one folder for both), and every text gets as many tokens: what is compared is time, not what
is written; the ids and features of both are compared. Seconds are wall-clock, the best of several calls after one that
warms up; CPU seconds are those of all threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

END, START, NO_TIMES = 50257, 50258, 50363
SPEECH = {
    "lang_to_id": {"<|en|>": 50259},
    "task_to_id": {"translate": 50358, "transcribe": 50359},
    "no_timestamps_token_id": NO_TIMES,
    "is_multilingual": True,
    "begin_suppress_tokens": None,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--clips", type=int, default=16)
    options.add_argument("--tokens", type=int, default=24)
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, chosen)
        return
    interpreters = {"transformers": os.environ["MAQUETTE_PEER_PYTHON"], "maquette": sys.executable}
    results: dict[str, list[dict[str, float]]] = {library: [] for library in interpreters}
    with tempfile.TemporaryDirectory() as folder:
        tokens = {"pad_token_id": END, "bos_token_id": END, "eos_token_id": END, "decoder_start_token_id": START}
        make = (
            "import torch, maquette as m; torch.manual_seed(0); "
            f"model = m.WhisperForConditionalGeneration(m.WhisperConfig(begin_suppress_tokens=None, **{tokens!r})); "
            f"model.generation_config.update(**{SPEECH!r}); model.save_pretrained({folder!r} + '/model')"
        )
        subprocess.run([sys.executable, "-W", "ignore", "-c", make], check=True, capture_output=True)
        for _ in range(chosen.rounds):
            for library, interpreter in interpreters.items():
                command = [interpreter, "-W", "ignore", __file__, "--worker", library, folder]
                for name in ("threads", "clips", "tokens"):
                    command += [f"--{name}", str(getattr(chosen, name))]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                results[library].append(json.loads(done.stdout.splitlines()[-1]))
        compare(Path(folder))
    report(results)


def work(library: str, folder: str, chosen: argparse.Namespace) -> None:
    import numpy as np
    import torch

    torch.set_num_threads(chosen.threads)
    if library == "maquette":
        import maquette as library_module
    else:
        import transformers as library_module
    draw = np.random.default_rng(0)
    seconds = draw.permutation(np.linspace(2, 30, chosen.clips))
    clips = [(0.1 * draw.standard_normal(round(16000 * each))).astype(np.float32) for each in seconds]
    extractor = library_module.WhisperFeatureExtractor()
    model = library_module.WhisperForConditionalGeneration.from_pretrained(folder + "/model").eval()
    how = {"language": "en", "task": "transcribe", "suppress_tokens": [END, *range(START, 51865)]}
    how |= {"max_new_tokens": chosen.tokens, "num_beams": 1}

    def hear():
        return extractor(clips, sampling_rate=16000, return_tensors="pt").input_features

    def write():
        with torch.inference_mode():
            return model.generate(hear(), **how)

    features, ids = hear(), write()
    torch.save({"features": features[::5], "ids": ids}, Path(folder) / f"{library}.pt")
    found: dict[str, float] = {}
    for name, call, times in (("features", hear, 5), ("text", write, 2)):
        spans = [measure(call) for _ in range(times)]
        found |= {name: min(span[0] for span in spans), f"{name}_cpu": min(span[1] for span in spans)}
    print(json.dumps(found))


def measure(call) -> tuple[float, float]:
    before, before_cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - before, time.process_time() - before_cpu


def compare(folder: Path) -> None:
    import torch

    one, other = (torch.load(folder / f"{library}.pt") for library in ("maquette", "transformers"))
    apart = (one["features"] - other["features"]).abs().max()
    same = (one["ids"] == other["ids"]).all(1).float().mean()
    print(f"features differ by {apart:.1e} at most; {same:.0%} of the texts are the same")


def report(results: dict[str, list[dict[str, float]]]) -> None:
    for name in ("features", "features_cpu", "text", "text_cpu"):
        medians = {library: statistics.median(run[name] for run in runs) for library, runs in results.items()}
        pairs = zip(results["transformers"], results["maquette"], strict=True)
        ratios = sorted(theirs[name] / ours[name] for theirs, ours in pairs)
        print(
            f"{name:>14}: transformers {medians['transformers']:.3f} s, maquette {medians['maquette']:.3f} s, "
            f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
