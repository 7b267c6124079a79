"""Whether somebody who has only the folder gets what was saved: tried in a fresh process, before the save happens.

The process sees installed packages and the staged folder, and neither the source the classes were imported from nor
the folder the user is in. It loads, with trust for exactly the staged code, and saves again; what it saved is compared
with what is staged, configuration and weights bit for bit.
"""

import contextlib
import importlib
import json
import mmap
import os
import shutil
import subprocess
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maquette.errors import RemoteCodeError, SaveError, bullets
from maquette.hub.sources import open_source
from maquette.remote_code.bundling import editable_folders, root_of
from maquette.remote_code.package import CodePackage, package_of
from maquette.storage.safetensors_header import read_header
from maquette.storage.transaction import Transaction

PROGRAM = """
import json, sys
job = json.loads(sys.argv[1])
sys.path[:] = job["path"]
from maquette.pretrained.verification import reload
reload(job)
"""
RESAVE = {"max_shard_size", "variant"}  # options of the save that decide on names of files


def verify_save(thing: Any, transaction: Transaction, options: Mapping[str, Any]) -> None:
    """Try the staged save in a fresh process.

    Raises:
        SaveError: with the process's reason, or what came back different.
    """
    work = transaction.staging / ".verification"
    saved, again = work / "saved", work / "again"
    _link_files(transaction.staging, saved)
    job = {
        **_loading(thing, saved, transaction.code),
        "path": _clean_path(type(thing), getattr(thing, "config_class", None)),
        "saved": str(saved.resolve()),
        "again": str(again.resolve()),
        "options": {name: value for name, value in options.items() if name in RESAVE},
    }
    name = type(thing).__name__
    if reason := _run(job, work):
        raise SaveError(
            f"{name} was not saved: a fresh process, which sees installed packages and the saved files only, cannot "
            f"load it.\n{reason}"
        )
    if found := [*_differences(saved, again)]:
        raise SaveError(f"{name} was not saved: what a fresh process loads is not what was saved:{bullets(found)}")


def _link_files(staging: Path, saved: Path) -> None:
    """Lay the staged files out as the folder that they will be, without copying them where that is possible."""
    for path in [path for path in staging.rglob("*") if path.is_file()]:
        target = saved / path.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copy2(path, target)


def _loading(thing: Any, saved: Path, code: tuple[dict[str, bytes], dict[str, Any]] | None) -> dict[str, Any]:
    """Say how the thing is loaded: by the AutoClass that its code is registered for, or as the class itself."""
    cls = type(thing)
    job: dict[str, Any] = {"keywords": {}}
    if code:
        with open_source(saved) as source:
            job["keywords"]["trust_remote_code"] = f"sha256:{CodePackage.read(source, code[1]).digest}"
        for auto_class, reference in code[1].items():
            references = reference if isinstance(reference, list) else [reference]
            if any(str(one).rpartition(".")[2] == cls.__name__ for one in references):
                if auto_class == "AutoTokenizer":
                    job["keywords"]["use_fast"] = cls.is_fast
                return job | {"module": "maquette", "class": auto_class}
    if package_of(cls) or cls.__module__ in ("__main__", "__mp_main__"):
        raise SaveError(
            f"{cls.__name__} was not saved: its code does not go along, and it is defined in {cls.__module__}, so a "
            f"fresh process cannot load it. Put it into a file, and call {cls.__name__}.register_for_auto_class()."
        )
    return job | {"module": cls.__module__, "class": cls.__qualname__}


def _clean_path(*classes: Any) -> list[str]:
    """List the folders that installed packages are imported from, without those of the user's own source."""
    standard = [os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    ours = os.path.realpath(Path(__file__).parents[2])
    hidden = {os.path.realpath(root) for cls in classes if cls and (root := _own_root(cls))} - {ours}
    editable = editable_folders()
    kept = []
    for entry in filter(None, sys.path):
        place = os.path.realpath(entry)
        is_package_folder = {"site-packages", "dist-packages"} & set(Path(place).parts)
        is_standard = any(place.startswith(one) for one in standard) or place.endswith(".zip")
        if place == ours or ((is_package_folder or is_standard or place in editable) and place not in hidden):
            kept.append(entry)
    return kept


def _own_root(cls: type) -> Path | None:
    """Find the folder of a user's class; None for what is installed, or has none."""
    try:
        root = root_of(cls)
    except RemoteCodeError:
        return None
    return None if root.name in ("site-packages", "dist-packages") else root


def _run(job: Mapping[str, Any], work: Path) -> str:
    """Start the process; gives why it failed, empty where it did not."""
    environment = {name: value for name, value in os.environ.items() if name != "MAQUETTE_TRUST"}
    environment["MAQUETTE_HOME"] = str((work / "home").resolve())
    elsewhere = work / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(  # noqa: S603 - this interpreter, and a program that is spelt out above
        [sys.executable, "-I", "-c", PROGRAM, json.dumps(job)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if not done.returncode:
        return ""
    reason = Path(job["again"] + ".error")
    if reason.is_file():
        return reason.read_text(encoding="utf-8")
    return f"It ended with {done.returncode}: {done.stderr.strip()[-2000:]}"


def reload(job: Mapping[str, Any]) -> None:
    """Do what the fresh process does: load, and save again."""
    try:
        loader: Any = importlib.import_module(job["module"])
        for part in job["class"].split("."):
            loader = getattr(loader, part)
        variant = {"variant": job["options"]["variant"]} if job["options"].get("variant") else {}
        loaded = loader.from_pretrained(job["saved"], **job["keywords"], **variant)
        loaded.save_pretrained(job["again"], **job["options"])
    except Exception as error:
        text = "".join(traceback.format_exception_only(error)).strip().replace(job["saved"], "the folder")
        Path(job["again"] + ".error").write_text(text, encoding="utf-8")
        sys.exit(1)


# What came back ----------------------------------------------------------------------------------------------------


def _differences(saved: Path, again: Path) -> Iterator[str]:
    names = [
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for folder in (saved, again)
    ]
    for name in sorted(names[0] | names[1]):
        if name not in names[1]:
            yield f"{name} is not written again"
        elif name not in names[0]:
            yield f"{name} is new"
        elif name.endswith(".safetensors"):
            yield from (f"{name}: {one}" for one in _different_tensors(saved / name, again / name))
        elif (saved / name).read_bytes() != (again / name).read_bytes():
            yield f"{name} differs{_different_keys(saved / name, again / name)}"


def _different_keys(one: Path, other: Path) -> str:
    if one.suffix != ".json":
        return ""
    mine, theirs = (json.loads(path.read_text(encoding="utf-8")) for path in (one, other))
    keys = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
    return f": {', '.join(f'{key} is {theirs.get(key)!r:.60} instead of {mine.get(key)!r:.60}' for key in keys[:5])}"


def _different_tensors(one: Path, other: Path) -> Iterator[str]:
    with _opened(one) as (mine, my_bytes), _opened(other) as (theirs, their_bytes):
        for name in sorted({*mine, *theirs}):
            if name not in theirs or name not in mine:
                yield f"{name} is {'new' if name in theirs else 'lost'}"
            elif name == "__metadata__":
                if mine[name] != theirs[name]:
                    yield "its notes differ"
            elif any(mine[name][key] != theirs[name][key] for key in ("dtype", "shape")):
                yield f"{name} has another type or shape"
            elif my_bytes(mine[name]) != their_bytes(theirs[name]):
                yield f"{name} has other values"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Give a safetensors file's header, and a function that gives a tensor's bytes by its entry there."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header, start = read_header(content)
        yield header, lambda entry: content[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
