"""Run by the peer's interpreter: what its functions on logits make of random scores.

    python peer_logits.py FOLDER

FOLDER has inputs.npz: ids and scores. This writes outputs.npz: `batch/name` for a batch of equal rows, `row/name/r` for
each of the ragged rows alone, without padding, and `chain/name/r` for those of whole settings.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from logit_cases import CASES, CHAINS, ENDS, LENGTHS, VOCABULARY
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel
from transformers.generation import logits_process


def main(folder: Path) -> None:
    transformers.logging.set_verbosity_error()
    stored = np.load(folder / "inputs.npz")
    ids, scores = torch.from_numpy(stored["ids"]), torch.from_numpy(stored["scores"])
    found = {}
    for name, (kind, arguments) in CASES.items():
        make = getattr(logits_process, kind)
        found[f"batch/{name}"] = make(*arguments)(ids, scores.clone())
        for row, length in enumerate(LENGTHS):
            found[f"row/{name}/{row}"] = make(*arguments)(ids[row : row + 1, :length], scores[row : row + 1].clone())
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=4, n_layer=1, n_head=1, n_positions=16)
    model = GPT2LMHeadModel(config)
    for name, settings in CHAINS.items():
        generation = GenerationConfig(**{"eos_token_id": ENDS, "pad_token_id": 0, **settings})
        for row, length in enumerate(LENGTHS):
            if "max_new_tokens" in settings:
                generation.max_length = length + settings["max_new_tokens"]
            model._prepare_special_tokens(generation, device="cpu")
            chain = model._get_logits_processor(generation, input_ids_seq_length=length, device="cpu")
            found[f"chain/{name}/{row}"] = chain(ids[row : row + 1, :length], scores[row : row + 1].clone())
    np.savez(folder / "outputs.npz", **{name: value.numpy() for name, value in found.items()})


main(Path(sys.argv[1]))
