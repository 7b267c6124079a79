"""The same folder in torch, Keras on TensorFlow, Keras on JAX, and Flax: forward passes of base-sized models, in turn.

    python benchmarks/frameworks.py [--rounds 3] [--threads 2] [--models distilbert vit resnet wav2vec2]

torch runs eagerly on the padded batch (without packing, which the others do not have); TensorFlow under `tf.function`,
the others under `jax.jit`. Every run is a process of its own; a first call, which compiles, is not counted, and the best
of the next five is. What they give is compared with what torch gave.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FRAMEWORKS = {"torch": "", "keras-tensorflow": "TF", "keras-jax": "TF", "flax": "Flax"}
CLASSES = {"distilbert": "DistilBertModel", "vit": "ViTModel", "resnet": "ResNetModel", "wav2vec2": "Wav2Vec2Model"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--models", nargs="+", choices=CLASSES, default=list(CLASSES))
    options.add_argument("--worker", nargs=3, metavar=("FRAMEWORK", "MODEL", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        framework, model, folder = chosen.worker
        print(json.dumps(RUNNERS[framework](model, Path(folder), chosen.threads)))
        return
    for model in chosen.models:
        with tempfile.TemporaryDirectory() as folder:
            report(model, measure(model, folder, rounds=chosen.rounds, threads=chosen.threads))


def measure(model: str, folder: str, *, rounds: int, threads: int) -> dict[str, list[dict[str, float]]]:
    """Let the frameworks take turns, torch first, which makes the folder; each round begins with another of them."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in FRAMEWORKS}
    names = list(FRAMEWORKS)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": str(threads)}
            if name.startswith("keras"):
                environ["KERAS_BACKEND"] = name.removeprefix("keras-")
            command = [sys.executable, __file__, "--threads", str(threads), "--worker", name, model, folder]
            done = subprocess.run(command, capture_output=True, text=True, env=environ)
            if done.returncode:
                raise SystemExit(done.stderr)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def report(model: str, found: dict[str, list[dict[str, float]]]) -> None:
    """Print the median time of each framework, the median of its ratios to torch in the same round, and the gap."""
    print(f"\n{CLASSES[model]}")
    for name, runs in found.items():
        ratios = [run["seconds"] / torch["seconds"] for run, torch in zip(runs, found["torch"], strict=True)]
        seconds, ratio = (statistics.median(values) for values in ([run["seconds"] for run in runs], ratios))
        apart = max(run["apart"] for run in runs)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"  {name:17} {seconds:7.3f} s   {ratio:5.2f} x torch ({spread})   {apart:.0e} apart")


def make_inputs(model: str) -> dict[str, np.ndarray]:
    """Make a batch: 16 texts of up to 128 tokens, 8 images of 224 by 224, or 4 clips of 5 seconds."""
    rng = np.random.default_rng(0)
    if model == "distilbert":
        lengths = rng.integers(32, 129, 16)
        mask = (np.arange(128) < lengths[:, None]).astype(np.int32)
        return {"input_ids": rng.integers(1, 30000, (16, 128)).astype(np.int32) * mask, "attention_mask": mask}
    if model == "wav2vec2":
        return {"input_values": rng.normal(size=(4, 5 * 16000)).astype(np.float32)}
    return {"pixel_values": rng.normal(size=(8, 3, 224, 224)).astype(np.float32)}


def take_time(model: str, folder: Path, call) -> dict[str, float]:
    """Time `call`, which gives the last states as numpy's, and compare them with torch's."""
    states, seconds = call(), []
    for _ in range(5):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    stored = folder / "states.npy"
    if not stored.exists():
        np.save(stored, states)
    return {"seconds": min(seconds), "apart": float(np.abs(np.load(stored) - states).max())}


def load(framework: str, model: str, folder: Path):
    """Load the class of a framework from the folder, which torch makes when it is not there."""
    maquette = importlib.import_module("maquette")
    kind = getattr(maquette, FRAMEWORKS[framework] + CLASSES[model])
    if not (folder / model).exists():
        kind(kind.config_class()).save_pretrained(folder / model)
    return kind.from_pretrained(folder / model)


def run_torch(model: str, folder: Path, threads: int) -> dict[str, float]:
    import torch

    from maquette.modeling.packing import use_packing

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    loaded = load("torch", model, folder).eval()
    inputs = {name: torch.from_numpy(array) for name, array in make_inputs(model).items()}
    with torch.inference_mode(), use_packing(False):
        return take_time(model, folder, lambda: loaded(**inputs).last_hidden_state.numpy())


def run_tensorflow(model: str, folder: Path, threads: int) -> dict[str, float]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = load("keras-tensorflow", model, folder)
    inputs = {name: tf.constant(array) for name, array in make_inputs(model).items()}
    forward = tf.function(lambda inputs: loaded(**inputs).last_hidden_state)
    return take_time(model, folder, lambda: forward(inputs).numpy())


def run_keras_on_jax(model: str, folder: Path, threads: int) -> dict[str, float]:
    import jax

    loaded = load("keras-jax", model, folder)
    trained, rest = ([v.value for v in group] for group in (loaded.trainable_variables, loaded.non_trainable_variables))

    @jax.jit
    def forward(trained, rest, inputs):
        return loaded.stateless_call(trained, rest, inputs, training=False)[0].last_hidden_state

    inputs = jax.device_put(make_inputs(model))
    return take_time(model, folder, lambda: np.asarray(forward(trained, rest, inputs)))


def run_flax(model: str, folder: Path, threads: int) -> dict[str, float]:
    import jax

    module, variables = load("flax", model, folder).unbind()
    forward = jax.jit(lambda variables, inputs: module.apply(variables, **inputs).last_hidden_state)
    inputs = jax.device_put(make_inputs(model))
    return take_time(model, folder, lambda: np.asarray(forward(variables, inputs)))


RUNNERS = {
    "torch": run_torch,
    "keras-tensorflow": run_tensorflow,
    "keras-jax": run_keras_on_jax,
    "flax": run_flax,
}

if __name__ == "__main__":
    main()
