"""Continue texts with a saved decoder, in a process that does not have its code: a batch at once, then as a stream.

Usage: python write.py [--output FOLDER] [beginning …]
"""

import argparse
from pathlib import Path

from maquette import AutoModelForCausalLM, AutoTokenizer

BEGINNINGS = ["The with statement", "A function definition", "If the expression list", "Names refer to objects. Names"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Continue texts with a saved decoder.")
    parser.add_argument("beginnings", nargs="*", default=BEGINNINGS)
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    options = parser.parse_args()
    folder = options.output / "echo"
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "seed": 1}

    inputs = tokenizer(options.beginnings, padding=True, return_tensors="pt")
    texts = tokenizer.batch_decode(model.generate(**inputs, **settings), skip_special_tokens=True)
    for text in texts:
        print(f"- {text}")

    streamed = list(options.beginnings)
    for row, text in model.stream(**inputs, tokenizer=tokenizer, **settings):
        streamed[row] += text
    print("The stream gave the same texts:", streamed == texts)


if __name__ == "__main__":
    main()
