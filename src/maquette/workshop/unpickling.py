"""The child process of `convert`: reads pickled weights without network, calling nothing that weights do not need.

    python -m maquette.workshop.unpickling SOURCE TARGET [KEY]

It writes a safetensors file and says on its standard output, as JSON, what the pickle wanted to call. Nothing else
imports this: weights are unpickled nowhere else, and here with `weights_only`.
"""

import contextlib
import ctypes
import json
import pickletools
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000  # of Linux' unshare
FORBIDDEN = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "subprocess.", "os.system", "os.exec", "os.spawn")
ALSO_FORBIDDEN = ("os.posix_spawn", "os.fork", "os.startfile", "ctypes.")
# Under which keys training scripts keep the weights among other things.
KEYS = ("state_dict", "model_state_dict", "model", "module", "weights", "params", "net")


def shut_network() -> str:
    """Leave the network for good: by the kernel where it lets us, and by Python's audit hooks everywhere."""
    by = "Python"
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            unshare = ctypes.CDLL(None, use_errno=True).unshare
            if unshare(NEW_NETWORK) == 0 or unshare(NEW_USER | NEW_NETWORK) == 0:
                by = "the kernel"
    return by


def forbid() -> None:
    """Have Python refuse connections and other processes from here on."""

    def hook(event: str, _: Any) -> None:
        if event.startswith((*FORBIDDEN, *ALSO_FORBIDDEN)):
            raise PermissionError(f"{event} is not allowed where weights are unpickled")

    sys.addaudithook(hook)


def list_calls(file: BinaryIO) -> list[str]:
    """List what a pickle, or an archive of torch's, imports to call it; nothing is run: its instructions are read."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return sorted(set(_calls_in_stream(file)))
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".pkl")]
        return sorted({call for name in names for call in _calls_in(archive.read(name))})


def _calls_in_stream(file: BinaryIO) -> Iterator[str]:
    """Go through the pickles that lie one after the other in a file of older versions of torch."""
    with contextlib.suppress(Exception):  # what follows the pickles is numbers
        while True:
            yield from _calls_of(pickletools.genops(file))


def _calls_in(content: bytes) -> Iterator[str]:
    with contextlib.suppress(Exception):
        yield from _calls_of(pickletools.genops(content))


def _calls_of(instructions: Iterable[Any]) -> Iterator[str]:
    texts: list[str] = []  # that were pushed so far
    memo: dict[int, str] = {}
    for instruction, argument, _ in instructions:
        name = instruction.name
        if name in ("GLOBAL", "INST"):
            yield re.sub(r"^__builtin__\b", "builtins", str(argument).replace(" ", "."))  # as Python 2 called it
        elif name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif "UNICODE" in name or name in ("STRING", "BINSTRING", "SHORT_BINSTRING"):
            texts.append(str(argument))
        elif name == "MEMOIZE" or name.endswith("PUT"):
            memo[len(memo) if argument is None else int(argument)] = texts[-1] if texts else ""
        elif name.endswith("GET") and int(argument) in memo:
            texts.append(memo[int(argument)])


def find_weights(content: Any, key: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Give the tensors by name, and of everything else why it was left out.

    Raises:
        ValueError: there are none, or several groups of them and no key says which.
    """
    import torch

    left_out: dict[str, str] = {}
    if key or not (isinstance(content, Mapping) and any(torch.is_tensor(value) for value in content.values())):
        groups = {
            str(name): value
            for name, value in (content.items() if isinstance(content, Mapping) else ())
            if isinstance(value, Mapping) and any(torch.is_tensor(each) for each in value.values())
        }
        chosen = [key] if key else [name for name in KEYS if name in groups][:1] or [*groups]
        if len(chosen) != 1 or chosen[0] not in groups:
            raise ValueError(
                f"It holds weights under {', '.join(groups)}: name one with --key."
                if groups
                else "It holds no weights."
            )
        left_out = {str(name): "beside the weights" for name in content if name != chosen[0]}
        content = groups[chosen[0]]
    tensors = {str(name): value for name, value in content.items() if torch.is_tensor(value)}
    left_out |= {
        str(name): f"a {type(value).__name__}" for name, value in content.items() if not torch.is_tensor(value)
    }
    return tensors, left_out


def separate(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Give each tensor memory of its own, in order, as safetensors wants it; what was tied is written twice."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        is_own = storage.data_ptr() not in seen and storage.nbytes() == tensor.numel() * tensor.element_size()
        found[name] = tensor.detach().contiguous() if is_own else tensor.detach().contiguous().clone()
        seen.add(storage.data_ptr())
    return found


def convert(source: str, target: str, key: str) -> dict[str, Any]:
    """Convert one file; gives what is to be told."""
    network = shut_network()
    import torch
    from safetensors.torch import save_file

    forbid()
    with open(source, "rb") as file:
        told: dict[str, Any] = {"calls": list_calls(file), "network": network}
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        said = re.search(r"WeightsUnpickler error:\s*([^\n]+)", str(error))  # behind much advice
        return told | {"refused": said[1] if said else f"{type(error).__name__}: {error}"}
    try:
        tensors, left_out = find_weights(content, key)
    except ValueError as error:
        return told | {"unfit": str(error)}
    save_file(separate(tensors), target, {"format": "pt"})
    return told | {"left_out": left_out}


if __name__ == "__main__":
    answer = convert(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
    print(json.dumps(answer))
