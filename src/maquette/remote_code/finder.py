"""Where Python looks for the code of checkpoints: before any folder, and only under names that no folder can have."""

import sys
from collections.abc import Sequence
from typing import Any

from maquette.remote_code.names import PACKAGE_PREFIX


class CodeFinder:
    """Hands names of private packages to `importing`, which is imported when the first such name comes."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        """Find a module of a private package, and nothing else."""
        if not fullname.startswith(PACKAGE_PREFIX):
            return None
        from maquette.remote_code.importing import find_module

        return find_module(fullname)


sys.meta_path.insert(0, CodeFinder)
