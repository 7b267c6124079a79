"""What the peer makes of settings, scores and stop strings: one process for all tests of this folder."""

import json
from collections.abc import Callable
from pathlib import Path

import foreign_decoders
import numpy as np
import pytest
from generate_cases import CASES as BEAMS
from generate_cases import GREEDY, PROMPTS, make_llama
from logit_cases import FOREIGN, OWN, SETTINGS, make_inputs
from stop_cases import STOPS, make_tokenizer

from maquette import GenerationConfig


@pytest.fixture(scope="session")
def peer_side(tmp_path_factory: pytest.TempPathFactory, run_peer: Callable[..., str]) -> Path:
    """A folder through which both libraries went."""
    folder = tmp_path_factory.mktemp("peer")
    for name in ("settings", "logits", "stops", "beams", "foreign"):
        (folder / name).mkdir()
    (folder / "settings" / "ours.json").write_text(json.dumps({**SETTINGS, **OWN}))
    (folder / "settings" / "theirs.json").write_text(json.dumps({**SETTINGS, **FOREIGN}))
    for name, settings in {**SETTINGS, **OWN}.items():
        GenerationConfig(**settings).save_pretrained(folder / "settings" / "ours" / name)
    ids, scores = make_inputs()
    np.savez(folder / "logits" / "inputs.npz", ids=ids, scores=scores)
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "stops" / "tokenizer.json"))
    cases = [{"strings": strings, "rows": [tokenizer.encode(text).ids for text in texts]} for strings, texts in STOPS]
    (folder / "stops" / "stops.json").write_text(json.dumps(cases))
    make_llama().save_pretrained(folder / "beams" / "model")
    (folder / "beams" / "cases.json").write_text(json.dumps({"cases": BEAMS + GREEDY, "prompts": PROMPTS}))
    for kind in foreign_decoders.KINDS:
        foreign_decoders.write(kind, folder / "foreign" / kind)
    asked = {"kinds": foreign_decoders.KINDS, "prompts": foreign_decoders.PROMPTS, "cases": foreign_decoders.CASES}
    (folder / "foreign" / "cases.json").write_text(json.dumps(asked))
    run_peer(Path(__file__).parent / "peer_side.py", folder)
    return folder
