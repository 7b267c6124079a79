"""Run by the peer's interpreter: what its pipelines answer, for test_pipelines.py to compare with.

    python peer_pipelines.py FOLDER

Writes FOLDER/results.json.
"""

import json
import sys
from pathlib import Path

from pipeline_cases import cases, plain
from transformers import pipeline


def main(folder: Path) -> None:
    found = {}
    for name, (task, model, options, inputs, call) in cases(folder).items():
        pipe = pipeline(task, model=str(folder / model), device=-1, **options)
        found[name] = plain(pipe(inputs, **call))
    (folder / "results.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
