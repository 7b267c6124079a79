"""Has JAX compile in haste, and keep what it compiled, for all processes of the tests; imported before JAX.

`make test` names a folder that its four runs share.
"""

import atexit
import os
import tempfile

FOLDER = tempfile.TemporaryDirectory(prefix="maquette-compiled-")
atexit.register(FOLDER.cleanup)
SETTINGS = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "JAX_COMPILATION_CACHE_DIR": FOLDER.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
}
os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
