"""Fresh processes that need not import torch again: children of one that did that and nothing else.

To import torch takes seconds of processor time, and some two hundred tests want a process of their own. A child made by
`os.fork` has everything that is ours, and its own modules, to import for the first time, as in a new interpreter. What
looks at the interpreter itself, or brings another framework, gets a new interpreter. So it is with Transformers, in the
environment that has it, for tests that compare with it.
"""

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECONDS = 300
# What a child would answer differently than a new interpreter does, or would rather not share with torch.
OWN = re.compile(
    r"sys\.modules|sys\.flags|tensorflow|keras|jax|flax|resource|perf_counter|importtime|subprocess|fork|signal"
)
DONT_WRITE = "PYTHONDONTWRITEBYTECODE"

# What a process imports before it has children.
TORCH = "import torch"
PEER = "import torch\nfrom transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast"

SERVER = r"""
import gc, json, os, signal, sys, traceback, types, warnings

replies = os.fdopen(os.dup(1), "w")
requests = os.fdopen(os.dup(0), "r")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
gc.freeze()  # what is here is not looked through again, which would copy it
for line in requests:
    request = json.loads(line)
    with warnings.catch_warnings():  # torch has threads, which Python 3.12 warns of
        warnings.simplefilter("ignore")
        child = os.fork()
    if child:
        print(child, file=replies, flush=True)
        status = os.waitpid(child, 0)[1]
        print(os.waitstatus_to_exitcode(status), file=replies, flush=True)
        continue
    signal.alarm(request["seconds"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.dont_write_bytecode = request["dont_write"]
    sys.argv = request["argv"]
    if request["stdin"]:
        os.dup2(os.open(request["stdin"], os.O_RDONLY), 0)
    for number, path in ((1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    replies.close()
    requests.close()
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__builtins__ = __builtins__
    name = "<string>"
    if sys.argv[0] != "-c":
        main.__file__ = name = sys.argv[0]
        sys.path[0] = os.path.dirname(name)
    try:
        exec(compile(request["code"], name, "exec"), main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        sys.excepthook(type(error), error.with_traceback(error.__traceback__.tb_next), error.__traceback__)
        sys.exit(1)
    sys.exit(0)
replies.close()
requests.close()
"""


class Child:
    """A process that runs; `wait` for it before the next one is started."""

    def __init__(self, server: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.server, self.folder = server, folder
        self.pid = int(server.stdout.readline())
        self.status: int | None = None

    def has_ended(self) -> bool:
        return self.status is not None or bool(select.select([self.server.stdout], [], [], 0)[0])

    def wait(self) -> int:
        if self.status is None:
            self.status = int(self.server.stdout.readline())
        return self.status

    def read(self, stream: str) -> str:
        """Give what it has written to "stdout" or "stderr"."""
        path = self.folder / stream
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


class Starter:
    """Starts fresh processes for one test session.

    Args:
        folder: for what they print.
        python: the interpreter.
        first: what is imported once for all of them.
        environ: variables that are read by what is imported.
    """

    def __init__(
        self, folder: Path, *, python: str = sys.executable, first: str = TORCH, environ: dict[str, str] | None = None
    ) -> None:
        self.folder, self.python, self.first, self.environ = folder, python, first, environ or {}
        self.server: subprocess.Popen[bytes] | None = None

    def run(self, code: str, *, cwd: Path, environ: dict[str, str]) -> tuple[int, str, str]:
        """Run code as `python -W error -c` does; gives exit status, output and errors."""
        pythonic = {name for name in environ if name.startswith("PYTHON") and name != DONT_WRITE}
        if OWN.search(code) or pythonic - {name for name in os.environ if name != "PYTHONPATH"}:
            command = [self.python, "-W", "error", "-c", code]
            done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=SECONDS)
            return done.returncode, done.stdout, done.stderr
        child = self.start(code, cwd=cwd, environ=environ)
        return child.wait(), child.read("stdout"), child.read("stderr")

    def start(
        self,
        code: str,
        *,
        cwd: Path,
        environ: dict[str, str],
        argv: Sequence[str] = ("-c",),
        given: str | None = None,
    ) -> Child:
        """Begin to run code, as a script where `argv` begins with its path; `given` is what it can read."""
        if self.server is None:
            own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | self.environ
            command = [self.python, "-W", "error" if self.first == TORCH else "ignore", "-c", self.first + SERVER]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
            self.server = subprocess.Popen(command, cwd=self.folder, env=own, **pipes)
        streams = {name: str(self.folder / name) for name in ("stdout", "stderr")}
        for path in streams.values():
            Path(path).unlink(missing_ok=True)
        if given is not None:
            (self.folder / "stdin").write_text(given, encoding="utf-8")
        streams["stdin"] = "" if given is None else str(self.folder / "stdin")
        request = {"code": code, "cwd": str(cwd), "environ": environ, "seconds": SECONDS, "argv": [*argv], **streams}
        line = json.dumps({**request, "dont_write": DONT_WRITE in environ}) + "\n"
        self.server.stdin.write(line.encode())
        return Child(self.server, self.folder)

    def stop(self) -> None:
        """Let the process end that the others come from."""
        if self.server is not None:
            self.server.communicate()
