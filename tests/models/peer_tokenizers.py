"""Run by the peer's interpreter: what the peer's tokenizers give, for test_peer_tokenizers.py.

    python peer_tokenizers.py FOLDER

FOLDER has texts.json, calls.json ({name: keywords}), and published/<family>, of which the peer saves its own as
theirs/<family>, and ours/<family>, which maquette saved. This writes found.json: {family: {call: columns}}, and of each
family `decoded`, `tidied` and, under `ours`, ids by what maquette saved.
"""

import json
import sys
from pathlib import Path

import transformers


def main(folder: Path) -> None:
    transformers.logging.set_verbosity_error()
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    calls = json.loads((folder / "calls.json").read_text(encoding="utf-8"))
    found = {}
    for place in sorted((folder / "published").iterdir()):
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        tokenizer.save_pretrained(folder / "theirs" / place.name)
        results = {}
        for name, options in calls.items():
            more = dict(options)
            pairs = [texts[::-1]] if more.pop("pairs", False) else []
            results[name] = dict(tokenizer(texts, *pairs, return_offsets_mapping=True, **more))
        ids = results["single"]["input_ids"]
        tidies = {"clean_up_tokenization_spaces": True} if place.name == "bert" else {}  # as ours does by itself
        results["decoded"] = tokenizer.batch_decode(ids, **tidies)
        results["tidied"] = tokenizer.batch_decode(ids, skip_special_tokens=True, **tidies)
        again = transformers.AutoTokenizer.from_pretrained(folder / "ours" / place.name)
        results["ours"] = again(texts)["input_ids"]
        results["special"] = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
        found[place.name] = results
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


main(Path(sys.argv[1]))
