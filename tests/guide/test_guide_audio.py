"""What guides 000, 001, 002 and 004 say of audio and of processors runs as written and prints what they show."""

import json
from pathlib import Path

import pytest
from guides import prompts

SESSION = """
import contextlib, io, json, sys
from pathlib import Path
namespace = {}
for block in json.loads(Path("blocks.json").read_text(encoding="utf-8")):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block["code"], "guide", "exec"), namespace)
    found = [line for line in printed.getvalue().splitlines() if line]
    assert found == block["shows"].splitlines(), (block["code"], found)
assert not {"torch", "tensorflow", "jax"} & set(sys.modules)
processor = namespace["processor"]
batch = processor([0.0, 0.5, -0.5], text="hello", sampling_rate=16000)
print("ran", batch.input_values[0].shape, batch.labels, processor.feature_extractor.padding_value)
processor.save_pretrained("saved")
"""
AGAIN = """
from maquette import AutoProcessor
processor = AutoProcessor.from_pretrained("saved")
print(type(processor).__name__, processor.decode(processor(text="hello").input_ids))
"""
TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]


@pytest.mark.parametrize(("number", "shown"), [("000", 2), ("001", 2), ("002", 1), ("004", 1)])
def test_audio_and_processors(number: str, shown: int, tmp_path: Path, run_fresh) -> None:
    blocks = [block for block in prompts(number, until="no such heading") if "Wav2Vec2" in block["code"]]
    assert sum(block["shows"].startswith("Wav2Vec2FeatureExtractor {") for block in blocks) == shown
    assert "Wav2Vec2Processor(feature_extractor=feature_extractor, tokenizer=tokenizer)" in blocks[-1]["code"]
    (tmp_path / "my_vocab_file.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    (tmp_path / "blocks.json").write_text(json.dumps(blocks), encoding="utf-8")
    hello = [TOKENS.index(letter) for letter in "hello"]
    for _ in range(2):
        assert run_fresh(SESSION) == f"ran (3,) {hello} 1.0\n"
    assert run_fresh(AGAIN) == "Wav2Vec2Processor helo\n"  # equal neighbours are one letter without a blank
