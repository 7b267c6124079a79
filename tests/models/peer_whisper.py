"""Run by the peer's interpreter: what the peer computes with Whisper, for test_whisper.py.

    python peer_whisper.py FOLDER

FOLDER has inputs.safetensors, cases.json ({case: {"class", "fields", …}}), and ours/<case>, which maquette saved. For
every case this writes theirs/<case>, a model of the peer's own in several files, and from both
results/<whose>-<case>.safetensors: outputs, losses and gradients; ids, times and segments that theirs generates, for
each setting in generation.json, into generated.json; and defaults.json. Of text.json and clips.safetensors it makes
theirs/processor, texts.json and features.safetensors; what the pipeline says to pipeline.json is in answers.json.
"""

import json
import sys
import traceback
from pathlib import Path

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from whisper_runs import run


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    inputs = load_file(folder / "inputs.safetensors")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    (folder / "defaults.json").write_text(json.dumps(transformers.WhisperConfig().to_dict()), encoding="utf-8")
    run_processor(folder, json.loads((folder / "text.json").read_text(encoding="utf-8")))
    torch.manual_seed(1)
    for case, about in cases.items():
        try:
            run_case(folder, case, about, inputs)
        except Exception:
            raise SystemExit(f"{case}: {traceback.format_exc()}") from None


def run_processor(folder, about):
    """Write theirs/processor, and what both folders' processors make of texts, ids and clips."""
    tokenizer = transformers.WhisperTokenizer(vocab=about["vocab"], merges=[tuple(pair) for pair in about["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": about["special"]})
    tokenizer.add_tokens(about["times"])
    extractor = transformers.WhisperFeatureExtractor()
    transformers.WhisperProcessor(extractor, tokenizer).save_pretrained(folder / "theirs" / "processor")
    found = {}
    for whose in ("ours", "theirs"):
        processor = transformers.WhisperProcessor.from_pretrained(folder / whose / "processor")
        found[whose] = read_texts(processor.tokenizer, about)
    (folder / "texts.json").write_text(json.dumps(found), encoding="utf-8")
    spoken = load_file(folder / "clips.safetensors")
    clips = [clip.numpy() for clip in spoken.values()]
    results = {}
    for name, (bands, given) in about["features"].items():
        extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
        made = extractor(clips, sampling_rate=16000, return_tensors="pt", return_attention_mask=True, **given)
        results |= {f"{name}.{key}": value.contiguous() for key, value in made.items()}
        if not given:  # in float64, as where torch is not installed
            whole = [numpy.pad(clip[:480000], (0, max(0, 480000 - len(clip)))) for clip in clips]
            exact = extractor._np_extract_fbank_features(whole, "cpu")
            results[f"{name}.exact"] = torch.from_numpy(exact.astype("float32"))
    save_file(results, folder / "features.safetensors")
    pipe = transformers.pipeline("automatic-speech-recognition", str(folder / "ours" / "processor"), device="cpu")
    calls = json.loads((folder / "pipeline.json").read_text(encoding="utf-8"))
    answers = {}
    for name, given in calls.items():
        sounds = [{"raw": spoken[key].numpy(), "sampling_rate": 16000} for key in ("2", "3")]
        answers[name] = [pipe(sound, **given) for sound in sounds]
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


def read_texts(tokenizer, about):
    found = {"ids": [], "decoded": []}
    for given in about["prefixes"]:
        tokenizer.set_prefix_tokens(**given)
        found["ids"].append(tokenizer(about["texts"])["input_ids"])
    found["pair"] = tokenizer("a text", "another")["input_ids"]
    found["prompt"] = tokenizer.get_prompt_ids(" Ada, Grace ", return_tensors="np").tolist()
    found["forced"] = tokenizer.get_decoder_prompt_ids(language="french", task="transcribe")
    for given in about["decoding"]:
        found["decoded"].append([tokenizer.decode(row, **given) for row in about["rows"]])
    return found


def run_case(folder, case, about, inputs):
    model_class = getattr(transformers, about["class"])
    model = model_class(transformers.WhisperConfig(**about["fields"]))
    with torch.no_grad():  # as random as weights, so that no scale is left at one
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    if about["generation"]:
        for name, value in about["generation"].items():
            setattr(model.generation_config, name, value)
        model.generation_config._from_model_config = False  # otherwise it is made anew, without these
    model.save_pretrained(folder / "theirs" / case, max_shard_size="10KB")
    for whose in ("ours", "theirs"):
        model, info = model_class.from_pretrained(folder / whose / case, output_loading_info=True)
        wrong = {kind: names for kind, names in info.items() if names and kind != "error_msgs"}
        assert not wrong, (case, whose, wrong)
        found = run(model.eval(), inputs, about["class"])
        results = {key: value.detach().clone().contiguous() for key, value in found.items()}
        save_file(results, folder / "results" / f"{whose}-{case}.safetensors")
    if about["generation"]:
        settings = json.loads((folder / "generation.json").read_text(encoding="utf-8"))
        written = {}
        for name, given in settings.items():
            try:
                written[name] = generate(model, inputs, given)
            except Exception:
                raise SystemExit(f"{name}: {traceback.format_exc()}") from None
        (folder / "generated.json").write_text(json.dumps(written), encoding="utf-8")
    if about["states"]:
        record_states(folder, case, model_class, inputs)


def generate(model, inputs, given):
    """Write down what is heard; each recording by itself, since what the peer gives may depend on those beside it."""
    given = dict(given)
    features, mask = inputs[given.pop("features", "features")], inputs.get(given.pop("mask", ""))
    if "prompt_ids" in given:
        given["prompt_ids"] = torch.tensor(given["prompt_ids"])
    found = []
    for row, heard in enumerate(features):
        own = None if mask is None else mask[row : row + 1]
        heard = heard if mask is None else heard[:, : max(int(own.sum()), 40)]
        own = None if own is None else own[:, : heard.shape[1]]
        torch.manual_seed(0)
        found.append(as_lists(model.generate(heard[None], attention_mask=own, **given)))
        model.set_attn_implementation("sdpa")
    return found


def as_lists(output):
    if isinstance(output, torch.Tensor):
        return {"ids": output[0].tolist()}
    found = {"ids": output["sequences"][0].tolist()}
    if "token_timestamps" in output:
        found["times"] = output["token_timestamps"][0].tolist()
    if "segments" in output:
        names = ("start", "end", "tokens", "token_timestamps")
        found["segments"] = [
            {name: torch.as_tensor(part[name]).tolist() for name in names if name in part}
            for part in output["segments"][0]
        ]
    return found


def record_states(folder, case, model_class, inputs):
    """Write every layer's states and attention weights."""
    model = model_class.from_pretrained(folder / "theirs" / case, attn_implementation="eager")
    wanted = {"output_hidden_states": True, "output_attentions": True}
    output = model(inputs["features"], decoder_input_ids=inputs["ids"], **wanted)
    names = ("encoder_hidden_states", "encoder_attentions", "decoder_hidden_states", "decoder_attentions")
    kept = {
        f"{name}.{n}": x.detach().clone().contiguous()
        for name in (*names, "cross_attentions")
        for n, x in enumerate(output[name])
    }
    save_file(kept, folder / "results" / f"states-{case}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
