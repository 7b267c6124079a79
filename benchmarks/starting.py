"""What one waits for before anything happens: a configuration in a fresh process, and a warm load of DistilBERT.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/starting.py [--pairs 5] [--loads 20]

Both libraries run by turns, each time in a new process. The first load of a process, which imports and maps, is told
apart; the figure of the warm ones is their median.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

CONFIGURATION = """
import json, resource
from {library} import DistilBertConfig
DistilBertConfig()
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps(dict(seconds=usage.ru_utime + usage.ru_stime, peak=usage.ru_maxrss / 1024)))
"""
LOAD = """
import json, statistics, sys, time, torch
torch.set_num_threads(1)
from {library} import DistilBertModel
times = []
for _ in range({loads} + 1):
    start = time.perf_counter()
    model = DistilBertModel.from_pretrained({folder!r})
    times.append(time.perf_counter() - start)
ours = sum(name.partition(".")[0] == {library!r} for name in sys.modules)
print(json.dumps(dict(first=times[0], warm=statistics.median(times[1:]), modules=ours)))
"""
SAVE = "from maquette import DistilBertConfig, DistilBertModel as M; M(DistilBertConfig()).save_pretrained({folder!r})"


def run(interpreter: str, code: str) -> dict[str, float]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [interpreter, "-W", "ignore", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--loads", type=int, default=20)
    chosen = options.parse_args()
    interpreters = {"maquette": sys.executable, "transformers": os.environ["MAQUETTE_PEER_PYTHON"]}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", SAVE.format(folder=folder)], check=True)
        results: dict[str, list[dict[str, float]]] = {library: [] for library in interpreters}
        for number in range(chosen.pairs + 1):
            for library, interpreter in interpreters.items():
                found = run(interpreter, CONFIGURATION.format(library=library))
                found |= run(interpreter, LOAD.format(library=library, loads=chosen.loads, folder=folder))
                if number:  # the first of each warms the disk's cache
                    results[library].append(found)
    print(f"{f'median of {chosen.pairs} pairs':42} {'maquette':>10} {'peer':>10} {'peer / ours':>12}")
    rows = {
        "a configuration: processor seconds": "seconds",
        "a configuration: peak memory, MB": "peak",
        "DistilBERT: first load of a process, s": "first",
        "DistilBERT: warm load, s": "warm",
        "modules of the library after that": "modules",
    }
    for title, key in rows.items():
        a, b = ([one[key] for one in results[library]] for library in interpreters)
        ratio = statistics.median(y / x for x, y in zip(a, b, strict=True))
        print(f"{title:42} {statistics.median(a):10.4f} {statistics.median(b):10.4f} {ratio:12.2f}")


if __name__ == "__main__":
    main()
