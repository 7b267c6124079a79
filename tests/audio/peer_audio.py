"""Run by the peer's interpreter: what the peer makes of sounds, and its folders, for the tests to compare with.

    python peer_audio.py FOLDER

FOLDER has clips.npz, cases.json ({name: {settings, options}}), pads.json (the same for `pad`), vocab.json, and
ours/extractor and ours/processor, which maquette saved. This writes results.npz and results.json, and theirs/extractor,
theirs/processor and theirs/old, the last in the layout of earlier versions.
"""

import json
import sys
from pathlib import Path

import numpy as np
import transformers
from transformers import (
    AutoFeatureExtractor,
    AutoProcessor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)


def main(folder: Path) -> None:
    transformers.logging.set_verbosity_error()
    stored = np.load(folder / "clips.npz")
    clips = [stored[f"clip{i}"] for i in range(len(stored.files))]
    arrays: dict[str, np.ndarray] = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        extractor = Wav2Vec2FeatureExtractor(**case["settings"])
        keep(arrays, name, extractor(clips, sampling_rate=16000, **case["options"]))
    for name, case in json.loads((folder / "pads.json").read_text()).items():
        extractor = Wav2Vec2FeatureExtractor(**case["settings"])
        rows = [clip.reshape(-1, case["width"]) if case["width"] > 1 else clip for clip in clips]
        keep(arrays, name, extractor.pad({"input_values": rows}, **case["options"]))
    results = read_ours(folder / "ours", clips, arrays)
    write_theirs(folder, clips, arrays, results)
    np.savez(folder / "results.npz", **arrays)
    (folder / "results.json").write_text(json.dumps(results))


def keep(arrays: dict[str, np.ndarray], name: str, batch) -> None:
    """Note every row of every value."""
    for key, rows in batch.items():
        for index, row in enumerate(rows):
            arrays[f"{name}/{key}/{index}"] = np.asarray(row)


def read_ours(folder: Path, clips, arrays) -> dict:
    """Load what maquette saved, and use it."""
    extractor = AutoFeatureExtractor.from_pretrained(folder / "extractor")
    processor = AutoProcessor.from_pretrained(folder / "processor")
    batch = processor(clips[0], text="ab c", sampling_rate=8000, return_tensors="np")
    keep(arrays, "ours", batch)
    return {
        "extractor": extractor.to_dict(),
        "extractor_class": type(extractor).__name__,
        "processor": processor.feature_extractor.to_dict(),
        "processor_class": type(processor).__name__,
        "tokenizer_class": type(processor.tokenizer).__name__,
        "decoded": processor.decode(processor.tokenizer("ab c").input_ids),
    }


def write_theirs(folder: Path, clips, arrays, results) -> None:
    extractor = Wav2Vec2FeatureExtractor(padding_value=0.5, sampling_rate=8000, return_attention_mask=True)
    extractor.save_pretrained(folder / "theirs/extractor")
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    processor = Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer)
    processor.save_pretrained(folder / "theirs/processor")
    extractor.save_pretrained(folder / "theirs/old")
    tokenizer.save_pretrained(folder / "theirs/old")
    results["label_ids"] = tokenizer("ab c").input_ids
    keep(arrays, "theirs", processor(clips[0], sampling_rate=8000, return_tensors="np"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
