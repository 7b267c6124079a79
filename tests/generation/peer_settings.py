"""Run by the peer's interpreter: what it makes of generation settings, for the tests to compare with.

    python peer_settings.py FOLDER

FOLDER has ours.json ({name: settings}), each saved by maquette as ours/name, and theirs.json. This writes read.json,
what the peer read from ours, and theirs/name, what it saved.
"""

import json
import sys
from pathlib import Path

import transformers
from transformers import GenerationConfig


def main(folder: Path) -> None:
    transformers.logging.set_verbosity_error()
    read = {}
    for name in json.loads((folder / "ours.json").read_text()):
        config = GenerationConfig.from_pretrained(folder / "ours" / name)
        read[name] = {key: value for key, value in config.to_dict().items() if value is not None}
    (folder / "read.json").write_text(json.dumps(read))
    for name, settings in json.loads((folder / "theirs.json").read_text()).items():
        GenerationConfig(**settings).save_pretrained(folder / "theirs" / name)
    names = [name for name in vars(GenerationConfig()) if not name.startswith("_")]
    (folder / "names.json").write_text(json.dumps(names))


main(Path(sys.argv[1]))
