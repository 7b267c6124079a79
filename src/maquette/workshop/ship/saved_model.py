"""SavedModel: a Keras model as graphs of TensorFlow, which TensorFlow Serving and the like open."""

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from maquette.errors import MissingPackageError
from maquette.workshop.ship.comparing import compare, run_elsewhere

READER = Path(__file__).with_name("saved_model_reader.py")
FOLDER = "saved_model"


def ship_to_saved_model(
    model: Any, staged: Path, work: Path, *, inputs: Mapping[str, Any] | None, **_: Any
) -> dict[str, Any]:
    """Write a Keras model, have TensorFlow alone run it in a fresh process, and compare.

    Args:
        model: a Keras model.
        staged, work: folders, for the result, and for what goes to and fro.
        inputs: to export with; unless given, the model's `dummy_inputs`.

    Raises:
        MissingPackageError: TensorFlow is not installed.
    """
    if missing := [name for name in ("tensorflow", "keras") if find_spec(name) is None]:
        raise MissingPackageError(f"--to saved-model needs {missing[0]}: pip install 'maquette[tf]'.")
    graphs = importlib.import_module("maquette.workshop.ship.keras_graphs")
    found = graphs.write_graph(model, inputs, staged / FOLDER)
    calls, expected = (
        [{name: torch.tensor(array) for name, array in each.items()} for each in found.pop(which)]
        for which in ("calls", "expected")
    )
    given = run_elsewhere(READER, work, calls, model=str((staged / FOLDER).resolve()))
    compared = [compare(call, wanted, other) for call, wanted, other in zip(calls, expected, given, strict=True)]
    return {"versions": found["versions"], "inputs": found["inputs"], "outputs": [*expected[0]], "compared": compared}
