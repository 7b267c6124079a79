"""Run by the peer's interpreter, once for all tests of this folder: what the peer makes of the same things.

    python peer_side.py FOLDER

FOLDER has `settings/`, with ours.json ({name: settings}), each saved by maquette as ours/name, and theirs.json;
`logits/inputs.npz`, ids and scores; `stops/`, with tokenizer.json and stops.json ({stop strings, rows of ids});
`beams/`, with model/, which maquette saved, and cases.json; `foreign/`, with folders that bring their code, and
cases.json.

This writes settings/read.json, what the peer read from ours, settings/theirs/name, what it saved, and names.json;
logits/outputs.npz: `batch/name` for a batch of equal rows, `row/name/r` for each of the ragged rows alone, without
padding, and `chain/name/r` for those of whole settings; stops/found.json, for each row where it would have ended; and
beams/found.json, texts and their scores; and foreign/found.json, texts of each folder, greedy and of beams.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from logit_cases import CASES, CHAINS, ENDS, LENGTHS, STEPS, STEPS_PROMPT, VOCABULARY
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    SynthIDTextWatermarkingConfig,
    WatermarkDetector,
)
from transformers.generation import logits_process
from transformers.generation.stopping_criteria import StopStringCriteria


def exchange_settings(folder: Path) -> None:
    read = {}
    for name in json.loads((folder / "ours.json").read_text()):
        config = GenerationConfig.from_pretrained(folder / "ours" / name)
        read[name] = {key: value for key, value in config.to_dict().items() if value is not None}
    (folder / "read.json").write_text(json.dumps(read))
    for name, settings in json.loads((folder / "theirs.json").read_text()).items():
        GenerationConfig(**settings).save_pretrained(folder / "theirs" / name)
    names = [name for name in vars(GenerationConfig()) if not name.startswith("_")]
    (folder / "names.json").write_text(json.dumps(names))


def with_watermark(settings: dict) -> dict:
    """Give SynthID's settings the class that the peer needs."""
    marking = settings.get("watermarking_config") or {}
    return (
        {**settings, "watermarking_config": SynthIDTextWatermarkingConfig(**marking)} if "keys" in marking else settings
    )


def compute_steps(folder: Path) -> None:
    """Mark the same scores after every beginning of rows that repeat themselves, and look for green tokens."""
    stored = np.load(folder / "inputs.npz")
    ids, scores = torch.from_numpy(stored["ids"]) % 2, torch.from_numpy(stored["scores"])
    found = {}
    for name, arguments in STEPS.items():
        process = logits_process.SynthIDTextWatermarkLogitsProcessor(*arguments)
        for length in range(STEPS_PROMPT, ids.shape[1] + 1):
            found[f"{name}/{length}"] = process(ids[:, :length], scores.clone()).numpy()
    config = GPT2Config(vocab_size=VOCABULARY, bos_token_id=VOCABULARY)
    for scheme, width in (("lefthash", 1), ("lefthash", 3), ("selfhash", 2)):
        for once in (False, True):
            marking = {"greenlist_ratio": 0.4, "seeding_scheme": scheme, "context_width": width}
            detector = WatermarkDetector(config, "cpu", marking, ignore_repeated_ngrams=once)
            for field, value in vars(detector(torch.from_numpy(stored["ids"]), return_dict=True)).items():
                found[f"{scheme}/{width}/{once}/{field}"] = value
    np.savez(folder / "steps.npz", **found)


def compute_logits(folder: Path) -> None:
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
        generation = GenerationConfig(**{"eos_token_id": ENDS, "pad_token_id": 0, **with_watermark(settings)})
        for row, length in enumerate(LENGTHS):
            if "max_new_tokens" in settings:
                generation.max_length = length + settings["max_new_tokens"]
            model._prepare_special_tokens(generation, device="cpu")
            chain = model._get_logits_processor(generation, input_ids_seq_length=length, device="cpu")
            found[f"chain/{name}/{row}"] = chain(ids[row : row + 1, :length], scores[row : row + 1].clone())
    np.savez(folder / "outputs.npz", **{name: value.numpy() for name, value in found.items()})


def find_stops(folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    found = []
    for case in json.loads((folder / "stops.json").read_text()):
        criterion = StopStringCriteria(tokenizer=tokenizer, stop_strings=case["strings"])
        rows = [torch.tensor([row]) for row in case["rows"]]
        lengths = [range(1, row.shape[1] + 1) for row in rows]
        found.append(
            [[bool(criterion(row[:, :n], None)[0]) for n in ns] for row, ns in zip(rows, lengths, strict=True)]
        )
    (folder / "found.json").write_text(json.dumps(found))


def cut(row: list[int], ends: list[int]) -> list[int]:
    """Leave out what stands behind the first end token."""
    return row[: next((place + 1 for place, token in enumerate(row) if token in ends), None)]


def search_beams(folder: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folder / "model").eval()
    asked = json.loads((folder / "cases.json").read_text())
    results = []
    for settings in asked["cases"]:
        tokens, scores = [], []
        negative = settings.pop("negative_prompt_ids", None)
        more = {} if negative is None else {"negative_prompt_ids": torch.tensor(negative)}
        for prompt in asked["prompts"]:
            out = model.generate(
                torch.tensor([prompt]),
                return_dict_in_generate=True,
                output_scores=True,
                do_sample=False,
                **with_watermark(settings),
                **more,
            )
            rows = out.sequences[:, len(prompt) :].tolist()
            tokens.append([cut(row, settings.get("eos_token_id", [2])) for row in rows])
            scores.append(out.sequences_scores.tolist() if "num_beams" in settings else [])
        results.append({"tokens": tokens, "scores": scores})
    (folder / "found.json").write_text(json.dumps(results))


def continue_foreign(folder: Path) -> None:
    """Continue prompts with code of older releases; with a cache where the peer of today still can."""
    asked = json.loads((folder / "cases.json").read_text())
    found = {}
    for kind in asked["kinds"]:
        model = AutoModelForCausalLM.from_pretrained(folder / kind, trust_remote_code=True).eval()
        options = {"use_cache": kind == asked["kinds"][-1], "do_sample": False}
        found[kind] = []
        for settings in asked["cases"]:
            texts = [model.generate(torch.tensor([row]), **options, **settings)[0] for row in asked["prompts"]]
            rows = zip(asked["prompts"], texts, strict=True)
            found[kind].append([cut(text[len(row) :].tolist(), [2]) for row, text in rows])
    (folder / "found.json").write_text(json.dumps(found))


def main(folder: Path) -> None:
    transformers.logging.set_verbosity_error()
    exchange_settings(folder / "settings")
    compute_logits(folder / "logits")
    compute_steps(folder / "logits")
    find_stops(folder / "stops")
    search_beams(folder / "beams")
    continue_foreign(folder / "foreign")


main(Path(sys.argv[1]))
