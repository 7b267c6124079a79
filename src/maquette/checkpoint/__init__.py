"""Weights on disk: reading them, matching their names to a model's, writing them, and axes between frameworks."""

from maquette.checkpoint.matching import (
    ExpectedParameters,
    LoadReport,
    Strictness,
    announce,
    match,
)
from maquette.checkpoint.reading import (
    FLOATS,
    INDEX_NAME,
    WEIGHTS_NAME,
    Checkpoint,
    Shape,
    StateDict,
    read_names,
    with_variant,
)
from maquette.checkpoint.writing import plan_shards, write_weights

__all__ = [
    "FLOATS",
    "INDEX_NAME",
    "WEIGHTS_NAME",
    "Checkpoint",
    "ExpectedParameters",
    "LoadReport",
    "Shape",
    "StateDict",
    "Strictness",
    "announce",
    "match",
    "plan_shards",
    "read_names",
    "with_variant",
    "write_weights",
]
