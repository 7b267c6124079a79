"""Preparing 64 photographs for ViT: maquette and the peer's two image processors in turn.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/images.py [--rounds 5] [--file-rounds 1]

The photographs are the two that scikit-learn ships, resized and shifted so that no two are alike: 64 of 640 × 480 in
memory, as images of Pillow's, and 64 JPEG files of 4,000 × 3,000. Each kind is a process that stays up and answers one
request after the other, so that start-up and imports count for nobody; the kinds take turns. All give float32 arrays
(64, 3, 224, 224); what they give is compared. Then: how many of 255 levels `fast_decode` changes, by size of the file.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

COUNT, WIDE = 64, (4000, 3000)
TASKS = {"memory": "64 photographs in memory", "files": "64 JPEG files of 12 megapixels"}
KINDS = {
    "torchvision": "peer, torchvision",
    "pillow": "peer, Pillow",
    "maquette": "maquette",
    "fast": "maquette, fast_decode",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5, help="of the photographs in memory")
    options.add_argument("--file-rounds", type=int, default=1, help="of the files")
    options.add_argument("--files", type=int, default=COUNT, help="how many of the large files")
    options.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        serve(chosen.serve[0], Path(chosen.serve[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), chosen.files)
        measure(Path(folder), {"memory": chosen.rounds, "files": chosen.file_rounds})
    report_fast_decode()


def photographs() -> list[Any]:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(array) for array in load_sample_images().images]


def write_files(folder: Path, large: int) -> None:
    from PIL import Image, ImageChops

    photos = photographs()
    for name, size, count in (("memory", (640, 480), COUNT), ("files", WIDE, large)):
        (folder / name).mkdir()
        bases = [photo.resize(size, Image.Resampling.BICUBIC) for photo in photos]
        for number in range(count):
            moved = ImageChops.offset(bases[number % 2], 7 * number, 3 * number)
            moved.save(folder / name / f"{number:02}.jpg", quality=90)


# The side that is measured ---------------------------------------------------------------------------------------


def serve(kind: str, folder: Path) -> None:
    """Answer each line of input, the name of a task, with the seconds it took and a checksum."""
    process = make_processor(kind)
    memory = [open_image(path) for path in sorted((folder / "memory").iterdir())]
    paths = sorted((folder / "files").iterdir())
    for line in sys.stdin:
        task = line.strip()
        start = time.perf_counter()
        pixels = process(memory if task == "memory" else paths)
        seconds = time.perf_counter() - start
        print(json.dumps([seconds, list(pixels.shape), float(np.abs(pixels).mean())]), flush=True)


def open_image(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        return image


def make_processor(kind: str) -> Any:
    if kind in ("maquette", "fast"):
        from maquette.models.vit.image_processing import ViTImageProcessor

        ours = ViTImageProcessor(fast_decode=kind == "fast")
        return lambda images: ours(images, return_tensors="np")["pixel_values"]
    import torch

    library = torch.library.Library("torchvision", "DEF")  # torchvision's wheels for CUDA lack it beside a CPU torch
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from transformers import ViTImageProcessor as Torchvision
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil as Pillow

    theirs = Torchvision() if kind == "torchvision" else Pillow()

    def process(images: Any) -> Any:
        if isinstance(images[0], Path):
            images = [open_image(path) for path in images]
        return theirs(images, return_tensors="np")["pixel_values"]

    process.library = library  # type: ignore[attr-defined]  # its operators live as long as it does
    return process


# The side that measures ------------------------------------------------------------------------------------------


def measure(folder: Path, rounds: dict[str, int]) -> None:
    peer = os.environ["MAQUETTE_PEER_PYTHON"]
    kinds = [kind for kind in KINDS if kind != "torchvision" or has_torchvision(peer)]
    if len(kinds) < len(KINDS):
        print("The peer's environment has no torchvision; only its Pillow processor is measured.")
    servers = {kind: start(kind, folder, peer) for kind in kinds}
    times: dict[tuple[str, str], list[float]] = {}
    for task in TASKS:
        asked = kinds if task == "files" else [kind for kind in kinds if kind != "fast"]
        warmups = 1 if task == "memory" else 0
        for number in range(rounds[task] + warmups):
            for kind in asked:
                seconds, *sums = ask(servers[kind], task)
                check(task, kind, sums)
                if number >= warmups:
                    times.setdefault((task, kind), []).append(seconds)
    for server in servers.values():
        server.communicate()
    report(times, kinds)


def has_torchvision(interpreter: str) -> bool:
    code = "import importlib.util as u; print(bool(u.find_spec('torchvision')))"
    return "True" in subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout


def start(kind: str, folder: Path, peer: str) -> "subprocess.Popen[str]":
    interpreter = sys.executable if kind in ("maquette", "fast") else peer
    command = [interpreter, "-W", "ignore", __file__, "--serve", kind, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(server: "subprocess.Popen[str]", task: str) -> Any:
    assert server.stdin and server.stdout
    server.stdin.write(task + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


_sums: dict[str, Any] = {}


def check(task: str, kind: str, sums: Any) -> None:
    first = _sums.setdefault(task, sums)
    if first[0] != sums[0] or abs(first[1] - sums[1]) > 5e-3:
        raise SystemExit(f"{kind} gave other images for {task}: {sums}, not {first}; the times mean nothing.")


def report(times: dict[tuple[str, str], list[float]], kinds: list[str]) -> None:
    for task, title in TASKS.items():
        medians = {kind: statistics.median(times[task, kind]) for kind in kinds if (task, kind) in times}
        best = min(value for kind, value in medians.items() if kind in ("torchvision", "pillow"))
        print(f"\n{title + ', median of ' + str(len(times[task, 'maquette'])):48} {'seconds':>8} {'times as fast':>14}")
        for kind, value in medians.items():
            print(f"  {KINDS[kind]:46} {value:8.3f} {best / value:14.2f}")


def report_fast_decode() -> None:
    from PIL import Image

    from maquette.models.vit.image_processing import ViTImageProcessor

    processor = ViTImageProcessor(do_rescale=False, do_normalize=False)
    print(f"\n{'what fast_decode changes, of 255 levels':38} {'mean':>8} {'99 %':>6} {'most':>6}")
    for size in ((640, 480), (1600, 1200), WIDE):
        changed = []
        for photo in photographs():
            file = io.BytesIO()
            photo.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
            exact, fast = (
                processor(file.getvalue(), return_tensors="np", fast_decode=way)["pixel_values"].astype(int)
                for way in (False, True)
            )
            changed.append(np.abs(exact - fast).ravel())
        levels = np.concatenate(changed)
        title = f"  {size[0]} × {size[1]}"
        print(f"{title:38} {levels.mean():8.3f} {np.percentile(levels, 99):6.0f} {levels.max():6d}")


if __name__ == "__main__":
    main()
