"""The language example: its sentences, its split, and the way from text files to a classifier in another process."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_arrays import read_arrays

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "language_id"


def import_prose() -> Any:
    spec = util.spec_from_file_location("example_prose", EXAMPLE / "prose.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prose = import_prose()

WORDS = {
    "English": (
        "The {} {} near the {}.",
        "old dog,young cat,tall boy,black horse",
        "sleeps,walks,waits",
        "river,house",
    ),
    "Spanish": (
        "El {} {} cerca de la {}.",
        "perro viejo,gato joven,niño alto,caballo negro",
        "duerme,camina,espera",
        "montaña,casa",
    ),
}


def run(script: str, *arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(EXAMPLE / script), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300
    )


def write_texts(folder: Path) -> Path:
    folder.mkdir()
    for language, (frame, *columns) in WORDS.items():
        rows = itertools.product(*(column.split(",") for column in columns))
        (folder / f"{language}.txt").write_text("\n".join(frame.format(*row) for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of a short training, and what it printed."""
    root = tmp_path_factory.mktemp("languages")
    data = write_texts(root / "data")
    finished = run("train.py", "--data", data, "--output", root / "out", "--epochs", 30, cwd=root)
    assert finished.returncode == 0, finished.stderr
    assert {line.split()[0] for line in finished.stderr.splitlines()} == {"step"}  # how far it is, and nothing else
    return root / "out", finished.stdout


@pytest.fixture
def copied(trained: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "out"))


def test_training_learns_and_says_what_it_did(trained: tuple[Path, str]) -> None:
    output, printed = trained
    saved = read_arrays(output / "held_out.npz")
    right = int((saved["logits"].argmax(1) == saved["labels"]).sum())
    assert sorted(saved["labels"]) == [0] * 5 + [1] * 5  # a fifth of 24 sentences of each
    assert right >= 9
    assert f"Held-out accuracy: {10 * right:.1f} % ({right} of 10 sentences)." in printed
    assert re.search(r"^Learnt \d+ tokens and [\d,]+ parameters from 38 sentences, 30 epochs in \d+\.\d s\.", printed)


def test_labels_are_those_of_the_files(trained: tuple[Path, str]) -> None:
    saved = read_arrays(trained[0] / "held_out.npz")
    for text, label in zip(saved["texts"], saved["labels"], strict=True):
        assert text.startswith(("The ", "El ")[label])


def test_the_folder_holds_model_and_tokenizer(trained: tuple[Path, str]) -> None:
    names = {path.name for path in (trained[0] / "language-classifier").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names


def test_a_fresh_process_gets_equal_logits_and_classifies(copied: Path) -> None:
    sentences = ["The young dog walks near the house.", "El gato negro espera cerca de la montaña."]
    finished = run("reload.py", "--output", copied, *sentences, cwd=copied)
    assert (finished.returncode, finished.stderr) == (0, "")
    first, *rest = finished.stdout.splitlines()
    assert first == "All 20 logits for 10 held-out sentences equal the saved ones, bit for bit."
    for line, language, sentence in zip(rest, ["English", "Spanish"], sentences, strict=True):
        found = re.fullmatch(rf"{language} \((\d+\.\d) %\): {re.escape(sentence)}", line)
        assert found and 50 < float(found[1]) <= 100


def test_reload_notices_the_smallest_difference(copied: Path) -> None:
    saved = read_arrays(copied / "held_out.npz")
    saved["logits"][3, 1] = np.nextafter(saved["logits"][3, 1], np.float32(np.inf))
    np.savez(copied / "held_out.npz", **saved)
    finished = run("reload.py", "--output", copied, cwd=copied)
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    assert "The logits differ from the saved ones" in finished.stderr


def test_reload_says_that_there_is_nothing_to_load(tmp_path: Path) -> None:
    finished = run("reload.py", "--output", tmp_path, cwd=tmp_path)
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    assert "Run train.py first." in finished.stderr


@pytest.mark.parametrize("case", ["no folder", "empty", "one language"])
def test_training_says_which_text_is_missing(case: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    if case != "no folder":
        data.mkdir()
    if case == "one language":
        (data / "English.txt").write_text("The old dog sleeps near the river.", encoding="utf-8")
    finished = run("train.py", "--data", data, "--output", tmp_path / "out", cwd=tmp_path)
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    problem = "is not there" if case == "no folder" else "has no sentences in two languages"
    assert f"{data} {problem}. Pass --data FOLDER" in finished.stderr
    assert not (tmp_path / "out").exists()


def test_prose_is_what_is_left_of_markdown() -> None:
    text = (
        "<!-- A licence that\nnobody reads aloud. -->\n# A heading in another language\n\n"
        "- Take a look at the [long table](a/b.md) of models. It is worth the time it takes!\n"
        "```py\nprint('this is a line of code, not prose')\n```\n"
        "| a cell of a table | another cell of it |\n> [!TIP]\n"
        "> これは二十文字を超える日本語の文章の例です。次の文もまた二十文字を超えている文です。\n"
        "Too short.\n"
    )
    assert prose.find_prose(text) == [
        "Take a look at the long table of models.",
        "It is worth the time it takes!",
        "これは二十文字を超える日本語の文章の例です。",
        "次の文もまた二十文字を超えている文です。",
    ]


@pytest.mark.parametrize("code_page", ["latin-1", "cp1252", "cp1254"])
def test_misread_text_is_repaired(code_page: str) -> None:
    good = "Configuração prévia: ¿cuántas únicas? Où est l’été – là."
    misread = good.encode().decode(code_page)
    assert misread != good
    assert prose.repair(misread) == good


@pytest.mark.parametrize("text", ["¿Qué tal, señor?", "São três maçãs.", "日本語の文です。", "Ã alone stays"])
def test_correct_text_is_left_alone(text: str) -> None:
    assert prose.repair(text) == text


def test_sentences_that_differ_in_names_of_code_only_are_one(tmp_path: Path) -> None:
    one, two = "The ViTModel has a head with num_labels.", "The TFBertModel has a head with `max_length`."
    both = "This stands in both of the files."
    (tmp_path / "English.txt").write_text(f"{one}\n{two}\n{both}\nA text of its own is here.", encoding="utf-8")
    (tmp_path / "Spanish.2.txt").write_text(f"Este modelo tiene una cabeza.\n{both}", encoding="utf-8")
    found = [tuple(sentence) for sentence in prose.read_sentences(tmp_path)]
    expected = [
        (one, "English"),
        ("A text of its own is here.", "English"),
        ("Este modelo tiene una cabeza.", "Spanish"),
    ]
    assert found == expected


def test_the_split_is_complete_disjoint_and_the_same_every_time(tmp_path: Path) -> None:
    sentences = prose.read_sentences(write_texts(tmp_path / "data"))
    kept, held_out = prose.split(sentences, share=0.25)
    assert sorted(kept + held_out) == sorted(sentences)
    assert not set(map(prose.key_of, (s.text for s in kept))) & set(map(prose.key_of, (s.text for s in held_out)))
    assert [sum(s.language == name for s in held_out) for name in WORDS] == [6, 6]
    assert prose.split(sentences, share=0.25) == (kept, held_out)


def test_the_guides_have_four_languages_and_are_repaired() -> None:
    if not any(prose.GUIDES.glob("*.txt")):
        pytest.skip("the guides lie beside the checkout, in ../shared/guides, and are not there")
    sentences = prose.read_sentences(prose.GUIDES)
    assert {sentence.language for sentence in sentences} == {"English", "Japanese", "Portuguese", "Spanish"}
    assert not [s.text for s in sentences if re.search("Ã[§£µ©ª¡]|â€", s.text)]
    kana = [bool(re.search("[\u3040-\u30ff]", sentence.text)) for sentence in sentences]
    assert kana == [sentence.language == "Japanese" for sentence in sentences]
