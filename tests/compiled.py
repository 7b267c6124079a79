"""Lets JAX keep what it compiles, for this process and for those that it starts. Imported before JAX is."""

import atexit
import os
import tempfile

FOLDER = tempfile.TemporaryDirectory(prefix="maquette-compiled-")
atexit.register(FOLDER.cleanup)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", FOLDER.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
