"""Checks in a process that knows nothing but the folder: one is started, and looks at every save there is."""

import contextlib
import contextvars
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from maquette.remote_code.package import package_of
from maquette.testing.report import Fault, NotApplicableError
from maquette.testing.subject import UNFIT, Subject

LIMIT = 600  # seconds
PROGRAM = "from maquette.testing.fresh import serve; serve()"


def check_fresh_process(subject: Subject) -> Iterator[Fault]:
    """What a fresh process loads is what was saved here, in every save of the other checks too."""
    if reason := _not_importable(subject.model_class):
        raise NotApplicableError(reason)
    if not subject.survives_saving:
        raise NotApplicableError(UNFIT)
    found = look_afresh(subject, "by name")
    yield from _foreign_faults(subject, found)
    for name, seen in found.items():
        if name != "plain" and "error" in found["plain"]:
            return  # the others can only say the same
        yield from _faults(subject, name, seen, f"saving, and loading in a fresh process ({name})")


def check_travel(subject: Subject) -> Iterator[Fault]:
    """What a fresh process loads with the code in the folder alone, through the AutoClass, is what was saved here."""
    if auto_class_of(subject.model_class) is None:
        raise NotApplicableError(f"{subject.name} is not registered with register_for_auto_class")
    if not subject.survives_saving:
        raise NotApplicableError(UNFIT)
    for name, seen in look_afresh(subject, "by code").items():
        yield from _faults(subject, name, seen, "saving, and loading in a fresh process with the code in the folder")


def _faults(subject: Subject, name: str, seen: dict[str, Any], how: str) -> Iterator[Fault]:
    if error := seen.get("error"):
        yield Fault(
            f"after {how}, there is no model: {error}",
            "keep what the model needs in modules that can be imported anywhere, and import it where it is used",
        )
        return
    observation = subject.observation.read(Path(seen["file"]), seen["ties"], seen["training"])
    yield from subject.saves[name].expected.faults(observation, how)


def _foreign_faults(subject: Subject, found: Mapping[str, dict[str, Any]]) -> Iterator[Fault]:
    brought = {module for seen in found.values() for module in seen["brought"]}
    for module in sorted(brought & subject.foreign):
        yield Fault(
            f"loading {subject.name} in a fresh process imports {module}, which it does not compute with",
            "import it where it is used, inside a function, or put what needs it into another file",
        )


def _not_importable(model_class: type) -> str:
    name = model_class.__name__
    if package_of(model_class):
        return f"the code of {name} came with a checkpoint; `travel` looks at it"
    if model_class.__module__ == "__main__":
        return f"{name} is defined in the script that is running, which no other process can import; move it to a file"
    if "<locals>" in model_class.__qualname__:
        return f"{name} is defined inside a function, where no other process can import it; move it to the top level"
    return ""


def auto_class_of(model_class: Any) -> str | None:
    """Name the AutoClass through which a model's own code is loaded; None where none travels."""
    if package := package_of(model_class):
        ending = f".{model_class.__name__}"
        return next(
            (auto for auto, ref in package.auto_map.items() if isinstance(ref, str) and ref.endswith(ending)), None
        )
    found: str | None = model_class._auto_class
    return found


# The process -----------------------------------------------------------------------------------------------------


class FreshProcess:
    """A process that has seen nothing; it takes one job after the other."""

    def __init__(self) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, and a program that is spelt out above
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(timeout=LIMIT)
        self.process.stdout.close()
        self.errors.close()

    def do(self, job: Mapping[str, Any], file: Path) -> dict[str, dict[str, Any]]:
        """Have a job done that is kept in a file; gives what was found.

        Raises:
            RuntimeError: the process ended, or took longer than `LIMIT`.
        """
        assert self.process.stdin and self.process.stdout
        whole = {"path": [path or os.getcwd() for path in sys.path], "hide": [], "keywords": {}, **job}
        file.write_text(json.dumps(whole), encoding="utf-8")
        watch = threading.Timer(LIMIT, self.process.kill)
        watch.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(f"{file}\n")
                self.process.stdin.flush()
            answered = self.process.stdout.readline()
        finally:
            watch.cancel()
        if not answered:
            code = self.process.wait()
            self.errors.seek(0)
            raise RuntimeError(f"the fresh process ended with {code}: {self.errors.read().strip()[-400:]}")
        found: dict[str, dict[str, Any]] = json.loads(file.with_suffix(".found.json").read_text(encoding="utf-8"))
        return found


Shared = tuple[contextlib.ExitStack, dict[str, FreshProcess]]
_shared: contextvars.ContextVar[Shared | None] = contextvars.ContextVar("fresh processes for all", default=None)


@contextlib.contextmanager
def one_fresh_process() -> Iterator[None]:
    """Let all models that are examined inside share the fresh process of `fresh_process`; a framework is imported once.

    The check `frameworks` has one for each framework. Code that travels still gets a process of its own.
    """
    with contextlib.ExitStack() as stack:
        token = _shared.set((stack, {}))
        try:
            yield
        finally:
            _shared.reset(token)


def fresh_process(purpose: str) -> contextlib.AbstractContextManager[FreshProcess]:
    """Give a process for a purpose: the shared one, where there are any, or one of its own."""
    shared = _shared.get()
    if shared is None:
        return FreshProcess()
    stack, processes = shared
    if purpose not in processes:
        processes[purpose] = stack.enter_context(FreshProcess())
    return contextlib.nullcontext(processes[purpose])


def look_afresh(subject: Subject, how: str) -> dict[str, dict[str, Any]]:
    """Have a fresh process load every save `by name` of the class, or the plain one `by code`; once a subject."""
    if how not in subject.afresh:
        _ = subject.reloaded
        job, file = _describe_job(subject, how), subject.folder / f"{how.replace(' ', '-')}.json"
        with fresh_process(how) if how == "by name" else FreshProcess() as process:
            subject.afresh[how] = process.do(job, file)
    return subject.afresh[how]


def _describe_job(subject: Subject, how: str) -> dict[str, Any]:
    cls = subject.model_class
    job: dict[str, Any] = {
        "half": type(subject).__module__,
        "threads": subject.threads(),
    }
    if how == "by name":
        job |= {"module": cls.__module__, "class": cls.__qualname__}
        return job | {
            "saves": {name: _hand_over(subject, name) for name, save in subject.saves.items() if save.reloads}
        }
    job |= {"module": "maquette.auto.models", "class": auto_class_of(cls), "keywords": {"trust_remote_code": True}}
    job["hide"] = [place for c in (cls, type(subject.config)) if (place := _origin(c))]
    return job | {"saves": {"plain": _hand_over(subject, "plain")}}


def _hand_over(subject: Subject, name: str) -> dict[str, str]:
    inputs = subject.folder / f"{name}.inputs.safetensors"
    subject.observation.save_file(subject.saves[name].inputs, inputs)
    return {"folder": str(subject.saves[name].folder), "inputs": str(inputs)}


def _origin(cls: type) -> str | None:
    """Find the folder that a class's own code is imported from; None for code that is installed, and our own."""
    if package_of(cls):
        return None
    path = Path(inspect.getfile(cls)).resolve()
    root = path.parents[cls.__module__.count(".") + (path.name == "__init__.py")]
    return None if root.name in ("site-packages", "dist-packages") or (root / "maquette").is_dir() else str(root)
