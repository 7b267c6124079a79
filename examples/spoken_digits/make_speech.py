"""Spoken digits by espeak-ng: who speaks in which set, what they say, and the sound files of it.

Usage: python make_speech.py [--output FOLDER]; train.py does this by itself.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
MOST_WORDS = 5


@dataclass(frozen=True)
class Cast:
    """Who speaks in a set of clips, and how fast. A voice is an accent with a variant: "en-us+m3".

    Attributes:
        speeds: words a minute.
    """

    accents: str
    variants: str
    speeds: tuple[int, ...]

    @property
    def voices(self) -> list[str]:
        return [f"{accent}+{variant}" for accent in self.accents.split() for variant in self.variants.split()]


# No accent, variant or speed is in two of them. (To "en-gb", espeak-ng 1.51 adds no variants; "en" is the same accent.)
CASTS = {
    "train": Cast(
        "en-us en en-gb-x-rp en-gb-scotland",
        "f1 f2 f4 m1 m2 m3 m5 m6 Alicia Denis Diogo Gene Henrique Hugo Jacky Lee Marco Mario Michael Nguyen adam anika "
        "antonio aunty benjamin boris david ed edward grandma grandpa gustave iven john klatt klatt3 marcelo max "
        "michel miguel pablo paul pedro quincy rob robert sandro shelby travis victor zac",
        (130, 145, 160, 175, 190, 205),
    ),
    "dev": Cast("en-gb-x-gbclan", "f3 m4 Mike steph", (137, 168, 198)),
    "test": Cast("en-029 en-gb-x-gbcwmd", "f5 m7 m8 Andy Annie linda", (120, 152, 183, 215)),
}


@dataclass(frozen=True)
class Clip:
    """What is said, and how.

    Attributes:
        speed: words a minute.
        pitch: from 0 to 99; 50 is the voice's own.
    """

    text: str
    voice: str
    speed: int
    pitch: int


class SpeechError(Exception):
    """There is no speech to learn from; the message says what to do."""


def plan(name: str, count: int) -> list[Clip]:
    """Choose the clips of a set, the same ones every time: 1 to 5 digits, every voice and speed equally often.

    From three digits on, no sequence of one set is in another: the sum of its digits tells where it belongs.
    """
    draw, cast = random.Random(name), CASTS[name]  # noqa: S311 - a choice, not a secret
    pairs = [(voice, speed) for voice in cast.voices for speed in cast.speeds]
    draw.shuffle(pairs)
    clips = []
    for number in range(count):
        digits = draw.choices(range(10), k=1 + number % MOST_WORDS)
        while len(digits) > 2 and set_of(digits) != name:
            digits = draw.choices(range(10), k=len(digits))
        voice, speed = pairs[number % len(pairs)]
        clips.append(Clip(" ".join(WORDS[digit] for digit in digits), voice, speed, draw.randint(25, 75)))
    return clips


def set_of(digits: list[int]) -> str:
    """Say which set a sequence belongs to; eight of ten are for training."""
    return {0: "dev", 1: "test"}.get(sum(digits) % 10, "train")


def make_speech(folder: Path, name: str, count: int) -> tuple[list[Path], list[str]]:
    """Give the sound files of a set, and what is said in them; they are made unless they are there.

    Raises:
        SpeechError: espeak-ng is missing, or lacks a voice.
    """
    clips, folder = plan(name, count), folder / name
    paths = [folder / f"{number:04}.wav" for number in range(count)]
    written, index = json.dumps([asdict(clip) for clip in clips], indent=1), folder / "clips.json"
    if not (index.is_file() and index.read_text(encoding="utf-8") == written):
        check_voices(program := find_program(), CASTS[name])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            work = pool.map(partial(speak, program), clips, paths)
            list(tqdm(work, total=count, desc=f"Speaking ({name})", unit="clip", disable=None))
        index.write_text(written, encoding="utf-8")
    return paths, [clip.text for clip in clips]


def speak(program: str, clip: Clip, path: Path) -> None:
    """Write one clip, 22,050 samples a second."""
    options = ["-v", clip.voice, "-s", str(clip.speed), "-p", str(clip.pitch), "-w", str(path)]
    finished = subprocess.run([program, *options, clip.text], capture_output=True, text=True)  # noqa: S603
    if finished.returncode or not path.is_file():
        raise SpeechError(f"espeak-ng could not say {clip}: {finished.stderr.strip() or finished.returncode}")


def find_program() -> str:
    if program := shutil.which("espeak-ng"):
        return program
    raise SpeechError(
        "The speech is made by espeak-ng, which is not installed. Install it with: apt install espeak-ng (Debian, "
        "Ubuntu), dnf install espeak-ng (Fedora), brew install espeak-ng (macOS), or from "
        "https://github.com/espeak-ng/espeak-ng/releases (Windows)."
    )


def check_voices(program: str, cast: Cast) -> None:
    """Make sure that there is every voice: for one that it lacks, espeak-ng takes another and says nothing."""
    known = list_voices(program, "en") | list_voices(program, "variant")
    if missing := sorted({*cast.accents.split(), *cast.variants.split()} - known):
        raise SpeechError(f"This espeak-ng has no voice {', '.join(missing)}. Install version 1.51 or newer.")


def list_voices(program: str, kind: str) -> set[str]:
    """Name espeak-ng's voices by language ("en-gb") and by file ("!v/m3")."""
    table = subprocess.run([program, f"--voices={kind}"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    words = table.split()
    return {*words} | {word.rpartition("/")[2] for word in words}


def main() -> str | None:
    """Give the reason why it failed, or None."""
    parser = argparse.ArgumentParser(description="Have espeak-ng speak digits.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--clips", type=int, default=3_000, help="to train with")
    options = parser.parse_args()
    try:
        for name, count in {"train": options.clips, "dev": 480, "test": 480}.items():
            make_speech(options.output / "speech", name, count)
    except SpeechError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
