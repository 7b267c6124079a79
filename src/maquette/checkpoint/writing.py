"""Weights on disk, written: one safetensors file or shards with an index, inside a save."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from maquette.checkpoint.reading import INDEX_NAME, WEIGHTS_NAME, with_variant
from maquette.storage.json_files import to_json
from maquette.storage.transaction import Transaction


def plan_shards(sizes: Mapping[str, int], limit: int, *, variant: str | None = None) -> dict[str, list[str]]:
    """Divide tensors among files of at most `limit` bytes, in order; a larger tensor gets a file of its own."""
    groups: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if groups[-1] and used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    if len(groups) == 1:
        return {with_variant(WEIGHTS_NAME, variant): groups[0]}
    stem = with_variant(WEIGHTS_NAME, variant).removesuffix(".safetensors")
    return {f"{stem}-{n:05d}-of-{len(groups):05d}.safetensors": group for n, group in enumerate(groups, 1)}


def write_weights(
    transaction: Transaction,
    sizes: Mapping[str, int],
    write_file: Callable[[list[str], Path], None],
    *,
    limit: int,
    variant: str | None = None,
) -> None:
    """Stage a model's weights, with an index where they need more than one file, and drop the files of an earlier save.

    Args:
        transaction: the save under way.
        sizes: bytes of every tensor, in the order to write them.
        write_file: writes the tensors of the given names into one safetensors file.
        limit: the most bytes of one file.
        variant: goes into the file names.
    """
    shards = plan_shards(sizes, limit, variant=variant)
    for file, names in shards.items():
        write_file(names, transaction.path(file))
        _share(transaction.path(file))
    if len(shards) > 1:
        weight_map = {name: file for file, names in shards.items() for name in names}
        content = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        transaction.write(with_variant(INDEX_NAME, variant), to_json(content))
    transaction.supersede(_files_of(variant))


def _files_of(variant: str | None) -> re.Pattern[str]:
    """Match the names of all weights files of a variant, also as earlier versions wrote them."""
    name, shard = f"\\.{re.escape(variant)}" if variant else "", r"(-\d{5}-of-\d{5})?"
    return re.compile(
        rf"(model{name}{shard}\.safetensors|model{shard}{name}\.safetensors(\.index\.json)?"
        rf"|model\.safetensors\.index{name}\.json)$"
    )


def _share(path: Path) -> None:
    """Give a file the permissions that new files have here; safetensors makes its files for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
