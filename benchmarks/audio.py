"""64 clips of 2 to 15 seconds, padded and normalised: maquette and the peer in turn, each run a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/audio.py [--pairs 7]

Both get the same float32 arrays and give one padded float32 array and a mask. Times are the median of several
calls in a process that has made one before; the clips of both results are compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

RUN = """
import json, sys, time
started = time.perf_counter()
{imports}
imported = time.perf_counter() - started
import numpy as np
noise = np.random.default_rng(0)
lengths = noise.integers(2 * 16000, 15 * 16000, 64)
clips = [(0.1 * noise.standard_normal(length) + 0.002).astype(np.float32) for length in lengths]
extractor = Wav2Vec2FeatureExtractor()
def median(call, times=7):
    call()
    found = []
    for _ in range(times):
        before = time.perf_counter()
        call()
        found.append(time.perf_counter() - before)
    return sorted(found)[times // 2]
options = dict(sampling_rate=16000, return_tensors="np")
batch = extractor(clips, padding=True, return_attention_mask=True, **options)
np.save({result!r}, batch["input_values"][::16])
print(json.dumps(dict(
    imported=imported,
    masked=median(lambda: extractor(clips, padding=True, return_attention_mask=True, **options)),
    plain=median(lambda: extractor(clips, padding=True, **options)),
    single=median(lambda: extractor(clips[0], **options), 31),
)))
"""
IMPORTS = {
    "maquette": "from maquette.models.wav2vec2.feature_extraction import Wav2Vec2FeatureExtractor",
    "transformers": "from transformers import Wav2Vec2FeatureExtractor",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=7)
    pairs = options.parse_args().pairs
    interpreters = {"maquette": sys.executable, "transformers": os.environ["MAQUETTE_PEER_PYTHON"]}
    found: dict[str, list[dict[str, float]]] = {library: [] for library in interpreters}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(pairs):
            for library, interpreter in interpreters.items():
                code = RUN.format(imports=IMPORTS[library], result=f"{folder}/{library}.npy")
                command = [interpreter, "-W", "ignore", "-c", code]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[library].append(json.loads(done.stdout.splitlines()[-1]))
        check(folder)
    report(found["maquette"], found["transformers"])


def check(folder: str) -> None:
    """Compare the two results, every sixteenth clip."""
    import numpy as np

    ours, theirs = (np.load(f"{folder}/{library}.npy") for library in IMPORTS)
    difference = float(np.abs(ours - theirs).max())
    print(f"largest difference: {difference:.1e}")
    if difference > 1e-6:
        raise SystemExit("The two libraries gave different numbers; the times mean nothing.")


def report(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    print(f"{'median of ' + str(len(ours)) + ' pairs':44} {'maquette':>10} {'peer':>10} {'peer / ours':>12}")
    rows = {
        "64 clips, padded, with mask, ms": "masked",
        "64 clips, padded, without mask, ms": "plain",
        "one clip, ms": "single",
        "import of the feature extractor, ms": "imported",
    }
    for title, key in rows.items():
        a, b = ([1000 * run[key] for run in runs] for runs in (ours, theirs))
        ratio = statistics.median(y / x for x, y in zip(a, b, strict=True))
        print(f"{title:44} {statistics.median(a):10.2f} {statistics.median(b):10.2f} {ratio:12.1f}")


if __name__ == "__main__":
    main()
