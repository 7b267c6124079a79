"""What code can do, found by reading it: nothing of it is run or imported.

The reading happens in a child process with limits of time and memory, for which this file is a script that needs
nothing but the standard library. It errs on the side of telling too much. What it cannot follow (names that are
computed, modules that are handed on, texts that are executed) it calls opaque. It finds what is written, not what is
meant: a report without findings is no judgement.
"""

import ast
import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

SECONDS, BYTES = 30, 2**30
KINDS = (
    "network",
    "processes",
    "files written",
    "files read",
    "environment",
    "dynamic execution",
    "native code",
    "opaque",
)

# What stands behind a dotted name; a name also stands for all below it, unless a longer one says otherwise.
NAMES = {
    "network": "socket ssl http urllib ftplib smtplib poplib imaplib nntplib telnetlib xmlrpc socketserver webbrowser "
    "requests httpx httpx2 aiohttp websockets websocket urllib3 pycurl paramiko boto3 botocore grpc zmq gradio wandb "
    "huggingface_hub asyncio.open_connection asyncio.start_server torch.hub torch.distributed fsspec s3fs gcsfs",
    "processes": "subprocess multiprocessing pty pexpect sh asyncio.create_subprocess_exec signal "
    "asyncio.create_subprocess_shell concurrent.futures.ProcessPoolExecutor torch.multiprocessing os.system os.popen "
    "os.fork os.forkpty os.execl os.execle os.execlp os.execlpe os.execv os.execve os.execvp os.execvpe os.spawnl "
    "os.spawnle os.spawnlp os.spawnlpe os.spawnv os.spawnve os.spawnvp os.spawnvpe os.posix_spawn os.posix_spawnp "
    "os.startfile os.kill os.killpg posix nt",
    "files written": "shutil tempfile os.remove os.unlink os.rmdir os.removedirs os.rename os.renames os.replace "
    "os.mkdir os.makedirs os.mkfifo os.mknod os.link os.symlink os.write os.truncate os.chmod os.chown os.open "
    "torch.save numpy.save numpy.savez numpy.savez_compressed numpy.savetxt numpy.memmap safetensors.torch.save_file "
    "safetensors.numpy.save_file sqlite3 dbm zipfile tarfile mmap logging.FileHandler",
    "files read": "os.listdir os.scandir os.walk os.fwalk os.readlink glob fileinput linecache io.open codecs.open "
    "numpy.fromfile numpy.loadtxt numpy.genfromtxt safetensors.safe_open safetensors.torch.load_file",
    "environment": "os.environ os.environb os.getenv os.getenvb os.putenv os.unsetenv os.getlogin os.chdir getpass "
    "keyring pwd grp platform.node netrc",
    "dynamic execution": "exec eval compile builtins __builtins__ importlib imp runpy code codeop pickle _pickle "
    "cPickle dill cloudpickle joblib marshal shelve torch.load numpy.load types.FunctionType types.CodeType "
    "sys.modules sys.path sys.meta_path sys.path_hooks sys.path_importer_cache sys.settrace sys.setprofile "
    "sys._getframe sys.addaudithook inspect.currentframe inspect.stack gc.get_objects gc.get_referrers pkgutil "
    "zipimport atexit timeit pdb bdb breakpoint operator.methodcaller operator.attrgetter",
    "native code": "ctypes _ctypes cffi torch.utils.cpp_extension torch.ops.load_library torch.classes.load_library "
    "numba cython pyximport triton cupy torch.utils.dlpack",
}
HARMLESS = {"urllib.parse", "http.HTTPStatus", "importlib.metadata", "importlib.util.find_spec", "numpy.loadtxt"}
HARMLESS |= {"signal.strsignal", "torch.distributed.is_available", "torch.distributed.is_initialized"}
RULES = {name: kind for kind, names in NAMES.items() for name in names.split()}
RULES |= dict.fromkeys(HARMLESS, "")
# Modules that are worth hiding: a chain that leads to one (`torch.utils.os.system`) counts from there, and handing one
# to a function counts as opaque.
ROOTS = {"os", "sys", "subprocess", "socket", "builtins", "importlib", "ctypes", "shutil", "pty", "posix", "pickle"}
# What needs no import; any other name that none brings is the code's own, whatever it is called.
KNOWN = ROOTS | {"exec", "eval", "compile", "breakpoint", "__builtins__"}
SPECIAL = {"__globals__", "__subclasses__", "__builtins__", "__code__", "__closure__", "__getattribute__", "__loader__"}
SPECIAL |= {"__spec__", "__reduce__", "__reduce_ex__", "__bases__", "__mro__", "f_globals", "f_locals", "tb_frame"}
METHODS = {
    "network": "push_to_hub from_pretrained hf_hub_download snapshot_download load_state_dict_from_url urlopen "
    "urlretrieve download_url_to_file",
    "processes": "system popen Popen check_call check_output getoutput getstatusoutput forkpty",
    "files written": "write_text write_bytes unlink rmdir mkdir touch symlink_to hardlink_to chmod rmtree savefig "
    "to_csv to_parquet to_pickle tofile extractall save_pretrained save save_file",
    "files read": "read_text read_bytes iterdir rglob",
    "dynamic execution": "exec_module load_module find_module run_module run_path",
    "native code": "load_library load_inline LoadLibrary CDLL",
}
CALLED = {name: kind for kind, names in METHODS.items() for name in names.split()}
ENCODED = re.compile(r"[A-Za-z0-9+/=_\-\s]{400,}|(?:[0-9a-fA-F]{2}){150,}")
HIDDEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00-\x08\x0e-\x1f\x7f]")


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that one line can do."""

    kind: str
    what: str
    file: str
    line: int


@dataclass(frozen=True)
class Capabilities:
    """What the files of a checkpoint can do, and what they import."""

    findings: tuple[Finding, ...]
    imports: tuple[str, ...]

    def of(self, kind: str) -> dict[str, list[str]]:
        """List what was found of one kind, each with the places where it stands."""
        found: dict[str, list[str]] = {}
        for finding in self.findings:
            if finding.kind == kind:
                found.setdefault(finding.what, []).append(f"{finding.file}:{finding.line}")
        return found


def scan_capabilities(files: Mapping[str, bytes], *, seconds: float = SECONDS, memory: int = BYTES) -> Capabilities:
    """Say what Python files can do, by reading them in a child process.

    Args:
        files: their contents by name.
        seconds: how long the reading may take.
        memory: how many bytes it may use.

    What goes beyond these limits comes back as opaque as a whole.
    """
    content = json.dumps({name: base64.b64encode(data).decode() for name, data in files.items()}).encode()
    command = [sys.executable, "-I", "-S", __file__, str(int(seconds) + 1), str(memory)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=seconds, check=True)  # noqa: S603
        found = json.loads(done.stdout)
        return Capabilities(tuple(Finding(*one) for one in found["findings"]), tuple(found["imports"]))
    except subprocess.TimeoutExpired:
        reason = f"could not be read in {seconds:g} seconds"
    except (subprocess.CalledProcessError, OSError, ValueError):
        reason = "could not be read within the limits of memory and time"
    return Capabilities(tuple(Finding("opaque", reason, name, 1) for name in sorted(files)), ())


# In the child process --------------------------------------------------------------------------------------------


@dataclass
class Tables:
    """What the names of each module stand for: dotted names, those of the files themselves beginning with `~`."""

    modules: dict[str, dict[str, str]] = field(default_factory=dict)

    def resolve(self, dotted: str) -> str:
        """Follow a name through the files to what it stands for in the end."""
        for _ in range(20):
            if not dotted.startswith("~"):
                return dotted
            parts = dotted[1:].split(".")
            depth = next((n for n in range(len(parts), -1, -1) if ".".join(parts[:n]) in self.modules), 0)
            rest, table = parts[depth:], self.modules.get(".".join(parts[:depth]), {})
            if not rest or rest[0] not in table:
                return dotted
            dotted = ".".join([table[rest[0]], *rest[1:]])
        return dotted


class Reader:
    """Reads one file: first what its names stand for, then what is done with them."""

    def __init__(self, file: str, tree: ast.Module, tables: Tables) -> None:
        self.file, self.tree, self.tables = file, tree, tables
        stem = file.removesuffix(".py").replace("/", ".")
        self.is_package = stem.rpartition(".")[2] == "__init__"
        self.module = stem.removesuffix("__init__").removesuffix(".")
        self.names: dict[str, str] = tables.modules.setdefault(self.module, {})
        self.tops = {top.partition(".")[0] for top in tables.modules if top}
        self.stars: list[str] = []
        self.findings: set[Finding] = set()
        self.imports: set[str] = set()

    def note(self, node: ast.AST, kind: str, what: str) -> None:
        """Note a finding at the line of a node."""
        self.findings.add(Finding(kind, what[:200], self.file, getattr(node, "lineno", 1)))

    # What names stand for

    def bind(self) -> None:
        """Learn what imports and plain assignments make of names."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    origin = self._origin(alias.name)
                    self.names[alias.asname or alias.name.partition(".")[0]] = (
                        origin if alias.asname else origin.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                if node.names[0].name == "*":
                    self.stars.append(base.removeprefix("~"))
                for alias in node.names:
                    self.names[alias.asname or alias.name] = f"{base}.{alias.name}" if base != "~" else f"~{alias.name}"
        for _ in range(3):  # an alias of an alias of an alias
            for node in ast.walk(self.tree):
                self._bind_assigned(node)

    def bind_stars(self) -> None:
        """Learn the names that `from .other import *` brings."""
        for module in self.stars:
            self.names |= {**self.tables.modules.get(module, {}), **self.names}

    def _origin(self, name: str) -> str:
        return f"~{name}" if name.partition(".")[0] in self.tops else name

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return self._origin(node.module or "")
        package = self.module.split(".") if self.module else []
        package = package[: len(package) - node.level + self.is_package]
        return "~" + ".".join([*package, *([node.module] if node.module else [])])

    def _bind_assigned(self, node: ast.AST) -> None:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            targets = [node.target]
        value = getattr(node, "value", None)
        if not targets or not isinstance(value, ast.Name | ast.Attribute | ast.Call):
            return
        if dotted := self.name_of(value):
            for target in targets:
                self._follow(target, dotted)

    def _follow(self, target: ast.expr, dotted: str) -> None:
        if not isinstance(target, ast.Name) or dotted.partition(".")[0] == target.id:
            return
        if dotted in ROOTS or target.id not in self.names:
            self.names[target.id] = dotted

    def name_of(self, node: ast.AST) -> str | None:
        """Give the dotted name of an expression: a name, an attribute, or an import or `getattr` with written text."""
        parts: list[str] = []
        while True:
            if isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            elif isinstance(node, ast.Call) and (text := _constant(node, 1)) and _called(node) == "getattr":
                parts += reversed(text.split("."))
                node = node.args[0]
            else:
                break
        if (
            isinstance(node, ast.Call)
            and _called(node) in ("__import__", "import_module")
            and (top := _constant(node, 0))
        ):
            base = self._origin(top.lstrip("."))
        elif isinstance(node, ast.Name):
            base = self.names.get(node.id, node.id if node.id in KNOWN else f"?{node.id}")
        else:
            base = ""
        dotted = ".".join([base, *reversed(parts)])
        return self.tables.resolve(dotted) if dotted else None

    # What is done with them

    def read(self) -> None:
        """Go through the whole file once."""
        inner: set[int] = set()
        plain = {id(getattr(node, "value", None)) for node in ast.walk(self.tree) if _is_plain(node)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._read_import(node)
            elif isinstance(node, ast.Constant):
                self._read_constant(node)
            elif isinstance(node, ast.Call):
                self._read_call(node)
            if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
                self._read_name(node, handed_on=id(node) not in plain)
            if isinstance(node, ast.Attribute):
                inner |= {id(part) for part in _chain(node)}

    def _read_import(self, node: ast.Import | ast.ImportFrom) -> None:
        base = self._base(node) if isinstance(node, ast.ImportFrom) else ""
        names = [self._origin(alias.name) for alias in node.names] if not base else [base]
        for name in names:
            if not name.startswith("~"):
                self.imports.add(name.partition(".")[0])
        if base and not base.startswith("~") and node.names[0].name == "*":
            self.note(node, "opaque", f"takes every name of {base}")
        for alias in node.names:
            self._judge(node, self.tables.resolve(f"{base}.{alias.name}" if base else self._origin(alias.name)))

    def _read_name(self, node: ast.Attribute | ast.Name, *, handed_on: bool) -> None:
        if not isinstance(node.ctx, ast.Load):
            return
        dotted = self.name_of(node) or ""
        self._judge(node, dotted)
        parts = dotted.split(".")
        if special := SPECIAL.intersection(parts):
            self.note(node, "opaque", f"reaches into the interpreter through {min(special)}")
        if "__dict__" in parts and (parts[0] in ROOTS or dotted.startswith("~")):
            self.note(node, "opaque", f"looks names up in {dotted}")
        if handed_on and dotted in ROOTS and dotted in self.names.values():
            self.note(node, "opaque", f"hands the module {dotted} on")

    def _judge(self, node: ast.AST, dotted: str) -> None:
        """Note what a dotted name is known for, counted from the last module in it that is worth hiding."""
        parts = dotted.split(".")
        start = max((n for n, part in enumerate(parts) if part in ROOTS), default=0)
        for begin in {0, start}:
            for end in range(len(parts), begin, -1):
                if (kind := RULES.get(".".join(parts[begin:end]))) is not None:
                    if kind:
                        self.note(node, kind, ".".join(parts[begin:]))
                    break

    def _read_call(self, node: ast.Call) -> None:
        name = _called(node)
        if isinstance(node.func, ast.Attribute) and name in CALLED:
            self.note(node, CALLED[name], f".{name}()")
        if name == "open":
            mode = (
                node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "mode"), None)
            )
            is_read = mode is None or (isinstance(mode, ast.Constant) and not set("wax+") & set(str(mode.value)))
            self.note(node, "files read" if is_read else "files written", "open()")
        elif name in ("__import__", "import_module"):
            self._read_import_call(node, name)
        elif name in ("getattr", "setattr", "delattr") and _constant(node, 1) is None and node.args:
            self._read_computed(node, name)
        elif name in ("globals", "locals") or (name == "vars" and node.args):
            self.note(node, "opaque", f"{name}() gives names that are computed")

    def _read_import_call(self, node: ast.Call, name: str) -> None:
        self.note(node, "dynamic execution", f"{name}()")
        text = _constant(node, 0)
        if text is None:
            self.note(node, "opaque", f"{name}() of a name that is computed")
        elif not self._origin(text.lstrip(".")).startswith("~"):
            self.imports.add(text.partition(".")[0])
            self._judge(node, text)
            if text in ROOTS:
                self.note(node, "opaque", f"hands the module {text} on")

    def _read_computed(self, node: ast.Call, name: str) -> None:
        """Note a `getattr` whose name is not written out, where its object is a module or what it gives is called."""
        dotted = self.name_of(node.args[0]) or ""
        top = dotted.partition(".")[0]
        if dotted.startswith("~") or top in self.names.values() or top in ROOTS or "import" in top:
            self.note(node, "opaque", f"{name}() of a name of {dotted} that is computed")
        elif not isinstance(node.args[0], ast.Name):
            self.note(node, "opaque", f"{name}() of a name that is computed")

    def _read_constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bytes) and len(value) >= 200:
            self.note(node, "opaque", f"holds {len(value)} bytes of data")
        elif (
            isinstance(value, str)
            and (match := ENCODED.search(value))
            and len(set(match[0])) > 8
            and not (match[0].count(" ") > len(match[0]) / 20)
        ):
            self.note(node, "opaque", f"holds {len(match[0])} characters that look encoded")


def _is_plain(node: ast.AST) -> bool:
    """Tell an assignment to names alone, which are followed, from one that puts a value out of sight."""
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) for target in node.targets)
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)


def _called(node: ast.Call) -> str:
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))


def _constant(node: ast.Call, position: int) -> str | None:
    """Give an argument of a call if it is a text that is written out."""
    value = node.args[position] if len(node.args) > position else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _chain(node: ast.Attribute) -> Iterator[ast.AST]:
    inner: ast.AST = node.value
    while isinstance(inner, ast.Attribute):
        yield inner
        inner = inner.value
    if isinstance(inner, ast.Name):
        yield inner


def survey(files: Mapping[str, bytes]) -> tuple[set[Finding], set[str]]:
    """Read all files together, since names lead from one into the other; in this process."""
    tables, trees, findings = Tables(), {}, set()
    for name, content in sorted(files.items()):
        try:
            trees[name] = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            findings.add(Finding("opaque", f"is not readable as Python ({type(error).__name__})", name, 1))
        tables.modules[name.removesuffix(".py").replace("/", ".").removesuffix("__init__").removesuffix(".")] = {}
        findings |= set(_hidden_characters(name, content))
    readers = [Reader(name, tree, tables) for name, tree in trees.items()]
    for reader in readers:
        reader.bind()
    for reader in readers:
        reader.bind_stars()
    for reader in readers:
        reader.read()
    imports = {name for reader in readers for name in reader.imports}
    return findings.union(*(reader.findings for reader in readers)), imports


def _hidden_characters(name: str, content: bytes) -> Iterable[Finding]:
    text = content.decode("utf-8", errors="replace")
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if HIDDEN.search(line):
            yield Finding("opaque", "holds characters that are not shown", name, number)


def main() -> None:
    """Read files from standard input, within the limits that the arguments give, and write what they can do."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]),) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    except ImportError:  # Windows has no such limits; the time that the parent waits still holds
        pass
    files = {name: base64.b64decode(text) for name, text in json.load(sys.stdin.buffer).items()}
    findings, imports = survey(files)
    listed = [(one.kind, one.what, one.file, one.line) for one in sorted(findings)]
    external = sorted(imports - set(sys.stdlib_module_names) - {""})
    json.dump({"findings": listed[:5000], "imports": external}, sys.stdout)


if __name__ == "__main__":
    main()
