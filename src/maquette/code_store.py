"""Where pickles of earlier versions find the function that they name; it lives in `remote_code.store` now."""

from maquette.remote_code.store import find_pickled as find_pickled
