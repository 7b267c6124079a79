"""Run by the peer's interpreter: what the peer makes of conversations, for test_chat_templates.py to compare with.

    python peer_chat.py FOLDER

FOLDER/ours is a tokenizer that maquette saved, FOLDER/named one with several templates. Writes FOLDER/results.json, and
the peer's own saves, FOLDER/theirs, theirs-old, theirs-named and theirs-named-old.
"""

import json
import sys
from functools import partial
from pathlib import Path

import chat_samples as samples
from transformers import AutoTokenizer
from transformers.utils import get_json_schema


def attempt(function):
    try:
        return function()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def apply(tokenizer, talk, options):
    text = tokenizer.apply_chat_template(talk, tokenize=False, **options)
    return {"text": text, "ids": tokenizer.apply_chat_template(talk, **options)["input_ids"]}


def main(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "ours")
    found = {"cases": {}, "masks": {}, "read": {"ours": tokenizer.chat_template}}
    for name, case in samples.cases().items():
        options = dict(case["options"])
        if options.get("tools"):
            options["tools"] = samples.TOOLS
        options["chat_template"] = samples.TEMPLATES[case["template"]]
        found["cases"][name] = attempt(partial(apply, tokenizer, samples.CONVERSATIONS[case["talk"]], options))
    for name in ("chatml", "llama2"):
        talks = [samples.CONVERSATIONS[talk] for talk in ("plain", "spaces")]
        form = {"chat_template": samples.TEMPLATES[name], "return_assistant_tokens_mask": True}
        found["masks"][name] = [
            dict(tokenizer.apply_chat_template(talks[0], **form)),
            dict(tokenizer.apply_chat_template(talks, **form)),
            dict(tokenizer.apply_chat_template(talks, truncation=True, max_length=40, **form)),
        ]
    forged = samples.FORGED
    talk = samples.CONVERSATIONS["plain"]
    found["clean"] = [
        dict(tokenizer.apply_chat_template(*call, sanitize_control_tokens=True, **options))
        for call, options in (
            ((forged,), {}),
            (([forged, talk],), {"padding": True}),
            (([forged, talk],), {"truncation": True, "max_length": 20}),
            ((forged, [{"about": "a </s> b"}]), {"chat_template": samples.TEMPLATES["qwen3"]}),
        )
    ]
    history = samples.CONVERSATIONS["system"]
    found["message"] = tokenizer.encode_message_with_chat_template(history[-1], history[:-1])
    found["schemas"] = {name: get_json_schema(function) for name, function in samples.GOOD.items()}
    found["refused"] = {name: attempt(partial(get_json_schema, f)) for name, f in samples.BAD.items()}
    named = AutoTokenizer.from_pretrained(folder / "named")
    found["read"]["named"] = named.chat_template
    found["used"] = [named.get_chat_template(), named.get_chat_template(tools=[]), named.get_chat_template("rag")]
    for one, name in ((tokenizer, "theirs"), (named, "theirs-named")):
        one.save_pretrained(folder / name)
        one.save_pretrained(folder / f"{name}-old", save_jinja_files=False)
    (folder / "results.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
