"""Run by the peer's interpreter: what the peer's tokenizer gives, for test_ctc_tokenizer.py to compare with.

    python peer_ctc_tokenizer.py FOLDER

FOLDER has task.json: cases (vocabulary, options, added tokens), rows of ids, decode options, texts and calls; and
ours/<case>, which maquette saved. For every case this makes a tokenizer of the peer's own, saves it as theirs/<case>,
and writes what that one and the one from ours/<case> give into results.json.
"""

import json
import sys
from pathlib import Path

from transformers import AddedToken, AutoTokenizer, Wav2Vec2CTCTokenizer


def main(folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    results = {}
    for name, case in task["cases"].items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(case["vocab"]), encoding="utf-8")
        made = Wav2Vec2CTCTokenizer(str(path), **case["options"])
        made.add_tokens([AddedToken(**token) if isinstance(token, dict) else token for token in case["added"]])
        if case["special"]:
            made.add_special_tokens({"additional_special_tokens": case["special"]})
        made.save_pretrained(folder / "theirs" / name)
        results[name] = look_at(made, task, decode=True)
        results[f"{name}, saved by ours"] = look_at(Wav2Vec2CTCTokenizer.from_pretrained(folder / "ours" / name), task)
        results[f"{name}, found"] = type(AutoTokenizer.from_pretrained(folder / "ours" / name)).__name__
        if made.target_lang:
            made.set_target_lang(case["other"])
            results[f"{name}, other language"] = look_at(made, task)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


def look_at(tokenizer, task, *, decode=False):
    found = {
        "vocabulary": tokenizer.get_vocab(),
        "length": len(tokenizer),
        "special": sorted(tokenizer.all_special_tokens),
        "attributes": {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "unk", "pad")},
        "delimiter": tokenizer.word_delimiter_token_id,
        "ids": [tokenizer(text)["input_ids"] for text in task["texts"]],
        "tokens": [tokenizer.tokenize(text) for text in task["texts"]],
        "calls": [dict(tokenizer(*call["texts"], **call["options"])) for call in task["calls"]],
    }
    if decode:
        found["decoded"] = [[read(tokenizer, row, options) for options in task["decoding"]] for row in task["rows"]]
        plain = {"output_char_offsets": True, "output_word_offsets": True}
        output = tokenizer.batch_decode(task["rows"], **plain)
        found["batch"] = json.loads(json.dumps([output.text, output.char_offsets, output.word_offsets], default=int))
    return found


def read(tokenizer, row, options):
    """Decode one row; the peer gives empty offsets that nobody asked for where no token is left."""
    output = tokenizer.decode(row, **options)
    if isinstance(output, str):
        return [output, None, None]
    characters = output.char_offsets if options["output_char_offsets"] else None
    words = output.word_offsets if options["output_word_offsets"] else None
    return [output.text, plain(characters), plain(words)]


def plain(offsets):
    return offsets and [
        {key: value if isinstance(value, str) else int(value) for key, value in o.items()} for o in offsets
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
