"""What is asked of folders that ours and the peer's wrote of one model, `ours/NAME` and `theirs/NAME`."""

from pathlib import Path

from safetensors import safe_open


def assert_same_names(exchange: Path, name: str) -> None:
    """Find the same tensors by name in both, in shards."""
    names = []
    for whose in ("ours", "theirs"):
        files = sorted((exchange / whose / name).glob("*.safetensors"))
        assert len(files) > 1
        names.append(sorted(key for file in files for key in safe_open(file, "pt").keys()))  # noqa: SIM118
    assert names[0] == names[1]
