"""Has frameworks see the arrays inside outputs as soon as both are imported, whichever comes first.

So a saved program whose outputs are these classes loads with `import maquette` alone, which imports no framework.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from typing import Any

_TREES = {"torch": "maquette.modeling.torch_trees", "jax": "maquette.modeling.jax_trees"}


class FrameworkFinder:
    """Finds a framework where Python does, and has the module that knows its pytrees imported after it."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        """Find one of the frameworks, and nothing else."""
        spec = PathFinder.find_spec(fullname, path) if fullname in _TREES else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            importlib.import_module(_TREES[fullname])

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, FrameworkFinder)  # type: ignore[arg-type]
for _name, _module in _TREES.items():
    if hasattr(sys.modules.get(_name), "__version__"):  # imported, and not in the middle of it
        importlib.import_module(_module)
