"""Prompts that peft has learnt, with generate of both libraries: run in an environment that has them and peft.

    python peft_prompts.py

Prints, as JSON, for each kind of prompt what Transformers gave for each row alone, and what maquette gave.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import peft  # type: ignore[import-not-found,unused-ignore]
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1] / "generation"))
from generate_cases import PROMPTS, make_llama

from maquette import Cache
from maquette.errors import ConfigurationError, InputError

SIZES = {"num_layers": 2, "token_dim": 32, "num_attention_heads": 4, "num_transformer_submodules": 1}
PREFIX = {"num_layers": 2, "token_dim": 16, "num_attention_heads": 2}  # of the heads of keys
BASE: dict[str, Any] = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}
KINDS = {
    "prompt": lambda: peft.PromptTuningConfig(**BASE, **SIZES),
    "p-tuning": lambda: peft.PromptEncoderConfig(**BASE, **SIZES, encoder_hidden_size=8),
    "prefix": lambda: peft.PrefixTuningConfig(**BASE, **PREFIX),
}
CASES: list[dict[str, Any]] = [{"max_new_tokens": 7}, {"max_new_tokens": 5, "num_beams": 3}]


def cut(row: list[int]) -> list[int]:
    return row[: row.index(2) + 1] if 2 in row else row


def refuse(call: Any) -> str:
    try:
        call()
    except (InputError, ConfigurationError) as error:
        return str(error)
    return ""


def main() -> None:
    transformers.logging.set_verbosity_error()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_llama().save_pretrained(folder)
        for kind, configure in KINDS.items():
            torch.manual_seed(1)
            ours = peft.get_peft_model(make_llama(), configure()).eval()
            theirs = peft.get_peft_model(transformers.LlamaForCausalLM.from_pretrained(folder), configure()).eval()
            with torch.no_grad():
                for parameter in ours.prompt_encoder.parameters():
                    parameter.copy_(torch.randn_like(parameter))
            theirs.prompt_encoder.load_state_dict(ours.prompt_encoder.state_dict())
            found[kind] = {"theirs": [], "ours": [], "few": [], "uncached": []}
            for case in CASES:
                alone = [
                    theirs.generate(input_ids=torch.tensor([row]), do_sample=False, **case)[0, len(row) :]
                    for row in PROMPTS
                ]
                found[kind]["theirs"].append([cut(row.tolist()) for row in alone])
                for name, more in {"ours": {}, "few": {"max_rows": 2}, "uncached": {"use_cache": False}}.items():
                    if kind != "prefix" or name != "uncached":
                        rows = ours.generate(PROMPTS, **case, **more)[:, max(map(len, PROMPTS)) :].tolist()
                        found[kind][name].append([cut(row) for row in rows])
        found["refused"] = {
            name: refuse(lambda more=more: ours.generate([[5]], max_new_tokens=2, **more))
            for name, more in {"cache": {"past_key_values": Cache()}, "no cache": {"use_cache": False}}.items()
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
