"""The hashes by which git and the Hub know a file."""

import hashlib
from pathlib import Path


def hash_file(path: Path, *, git: bool) -> str:
    """Give the hash that the Hub knows a file by: git's object id, or for a large file the sha256 of its bytes."""
    digest = hashlib.sha1(usedforsecurity=False) if git else hashlib.sha256()
    if git:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while chunk := stream.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()
