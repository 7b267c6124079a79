"""The random states of Python, numpy and torch: kept, brought back, and lent to the data."""

import contextlib
import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

States = dict[str, Any]


def capture_states() -> States:
    """Give all random states of this process as plain data that JSON can hold."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # type: ignore[misc]
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [str(kind), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": _to_hex(torch.get_rng_state()),
        "cuda": [_to_hex(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def gather_states(accelerator: Any) -> list[States]:
    """Give the random states of all processes, in the order of their numbers."""
    own = capture_states()
    if accelerator.num_processes == 1:
        return [own]
    text = torch.tensor(list(json.dumps(own).encode()), dtype=torch.uint8, device=accelerator.device)
    text = accelerator.pad_across_processes(text, pad_index=ord(" "))
    return [json.loads(bytes(one.tolist())) for one in accelerator.gather(text).split(len(text))]


def restore_states(states: States) -> None:
    """Bring back what `capture_states` gave."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(_from_hex(states["torch"]))
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([_from_hex(state) for state in states["cuda"]])


def _to_hex(state: torch.Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_hex(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)


def derive_seed(*key: Any) -> int:
    """Give 63 random-looking bits that follow from a key of numbers and texts, the same on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_everything(seed: int) -> None:
    """Begin all random sequences of this process anew."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Stream:
    """Random sequences of their own: what runs inside `with stream:` draws from them, and disturbs no others.

    Python's, numpy's and torch's global generators (on the CPU) are lent out, and handed back as they were; the next
    `with` goes on where the last one ended.
    """

    def __init__(self, *key: Any) -> None:
        seed = derive_seed(*key)
        self._own = (
            random.Random(seed).getstate(),  # noqa: S311 - augmentation, no secret
            np.random.RandomState(seed % 2**32).get_state(),
            torch.Generator().manual_seed(seed).get_state(),
        )

    def __enter__(self) -> None:
        self._others = _current()
        _set(self._own)

    def __exit__(self, *exception: object) -> None:
        self._own = _current()
        _set(self._others)


def _current() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set(states: tuple[Any, Any, torch.Tensor]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


@contextlib.contextmanager
def seeded(*key: Any) -> Iterator[None]:
    """Have everything random inside a `with` block follow from a key, and leave the sequences outside as they were."""
    with Stream(*key):
        yield
