"""Guides 000, 001, 002 and 004 up to and including "Tokenizer", as written, against a Hub on loopback."""

import json
import re
from pathlib import Path

import pytest
from guides import FOLDER, prompts
from loopback_hub import LoopbackHub

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "hello", "world", "##s", ",", "."]

SESSION = """
import contextlib, io, json
from pathlib import Path
namespace = {}
for block in json.loads(Path("blocks.json").read_text(encoding="utf-8")):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block["code"], "guide", "exec"), namespace)
    shown = [line for line in block["shows"].splitlines() if "transformers_version" not in line]
    found = [line for line in printed.getvalue().splitlines() if "maquette_version" not in line]
    assert found == shown, (block["code"], found, shown)
for name, prefix in (("model", ""), ("tf_model", "TF")):
    if name in namespace:
        assert type(namespace[name]).__name__ == prefix + "DistilBertForQuestionAnswering"
fast, slow = namespace["fast_tokenizer"], namespace["slow_tokenizer"]
print("ran", fast("hello worlds")["input_ids"], slow("hello")["input_ids"])
"""

MAKE = """
from maquette import DistilBertConfig, DistilBertForMaskedLM, DistilBertTokenizerFast
config = DistilBertConfig(vocab_size=20, dim=16, n_heads=2, n_layers=2, hidden_dim=32, max_position_embeddings=32)
DistilBertForMaskedLM(config).save_pretrained("hub")
DistilBertTokenizerFast(vocab_file="my_vocab_file.txt").save_pretrained("hub")
"""


@pytest.mark.parametrize("number", ["000", "001", "002", "004"])
def test_text_sections_run_as_written_twice(number: str, tmp_path: Path, run_fresh) -> None:
    blocks = prompts(number, until="Extrac?tor|Image Processor")
    source = "".join(block["code"] for block in blocks)
    in_keras = [block for block in blocks if "TF" in block["code"]]
    assert len(blocks) - len(in_keras) >= 13
    assert len(in_keras) == (5 if number == "000" else 0)  # the translations leave them out
    assert source.count("print(config)") == 1
    assert "DistilBertForQuestionAnswering" in source
    (tmp_path / "my_vocab_file.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    (tmp_path / "blocks.json").write_text(json.dumps(blocks), encoding="utf-8")
    run_fresh(MAKE)
    files = {path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()}
    (tmp_path / "your_model_save_path").mkdir()
    (tmp_path / "your_model_save_path" / "my_config.json").write_bytes(files["config.json"])
    with LoopbackHub() as hub:
        for name in ("distilbert-base-uncased", "distilbert/distilbert-base-uncased"):
            hub.add_commit(name, files)
        for _ in range(2):
            printed = run_fresh(SESSION, env=dict(hub.environ(tmp_path / "cache")))
            assert "ran [2, 15, 16, 17, 3] [2, 15, 3]" in printed


def test_the_guides_are_really_cut_into_blocks() -> None:
    text = sorted(FOLDER.glob("000_*.txt"))
    if not text:
        pytest.skip("the guides lie beside the checkout, in ../shared/guides, and are not there")
    blocks = prompts("000", until="Image Processor")
    assert sum(len(re.findall("^>>> ", block["raw"], re.M)) for block in blocks) > 30
