"""Every exception that maquette raises on purpose, and the spelling help their messages share.

    MaquetteError
    ├── ConfigurationError (ValueError)         a configuration's value or combination of values is wrong
    │   └── UnknownFieldError (TypeError, AttributeError)  a name that the configuration does not have
    ├── UnknownNameError (ValueError)           a model type, AutoClass or option nobody registered
    ├── FileFormatError (ValueError)            a file was read and is not what it should be
    ├── MissingFileError (OSError)              a file, folder, repository or revision is not there
    ├── UnsafePathError (ValueError)            a name that would leave its folder
    ├── CheckpointError (RuntimeError)          weights and model do not fit
    ├── InputError (ValueError, TypeError)      a text, id or option that cannot be tokenized, padded or decoded
    ├── NonFiniteError (FloatingPointError)     a loss that is NaN or infinite, where that ends a run
    ├── MissingPackageError (ImportError)       a framework that was asked for and is not installed
    ├── SaveError (ValueError)                  nothing was written, and this is why
    ├── UntrustedCodeError (ValueError)         a folder brings code that the caller did not approve
    └── RemoteCodeError (ImportError)           approved code that cannot be imported, or code that cannot be saved

Each also derives from the built-in exception that fits, so `except ValueError` works as everywhere in Python.
"""

from collections.abc import Callable, Iterable
from typing import Any


class MaquetteError(Exception):
    """Base of all errors that maquette raises on purpose."""


class ConfigurationError(MaquetteError, ValueError):
    """A configuration's value, or a combination of its values, is wrong."""


class UnknownFieldError(ConfigurationError, TypeError, AttributeError):
    """A name that the configuration does not have; the message carries the nearest one that it has."""


class UnknownNameError(MaquetteError, ValueError):
    """A model type, AutoClass or option that nobody registered."""


class FileFormatError(MaquetteError, ValueError):
    """A file that was found, but is not what its name promises."""


class MissingFileError(MaquetteError, OSError):
    """A file, folder, repository or revision that is not there."""


class UnsafePathError(MaquetteError, ValueError):
    """A file name, read from a file, that would leave the folder it belongs to."""


class CheckpointError(MaquetteError, RuntimeError):
    """Weights that do not fit the model; the message lists every key."""


class InputError(MaquetteError, ValueError, TypeError):
    """Something to be tokenized, padded or decoded that cannot be; the message says which item it is."""


class NonFiniteError(MaquetteError, FloatingPointError):
    """A loss or gradient that is NaN or infinite, in a run that is to end then."""


class MissingPackageError(MaquetteError, ImportError):
    """A framework that was asked for and is not installed."""


class SaveError(MaquetteError, ValueError):
    """Something that cannot be saved; nothing was written."""


class UntrustedCodeError(MaquetteError, ValueError):
    """A folder or repository whose code the caller did not approve; nothing of it ran."""


class RemoteCodeError(MaquetteError, ImportError):
    """Approved code that cannot be imported, or code that cannot travel with a model."""


class MissingAttributeError(AttributeError):
    """An attribute that is not there; its text is composed when it is read, for most who ask only want to know."""

    def __init__(self, compose: Callable[[], str]) -> None:
        super().__init__()
        self.compose = compose

    def __str__(self) -> str:
        return self.compose()

    def __reduce__(self) -> Any:
        return AttributeError, (str(self),)


def edit_distance(a: str, b: str) -> int:
    """Count the letters to insert, delete, replace or swap with a neighbour to turn `a` into `b`.

    The optimal string alignment distance (Damerau 1964, as restricted by Boytsov 2011).
    """
    two_back: list[int] = []
    one_back = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        row = [i]
        for j, right in enumerate(b, 1):
            cost = min(one_back[j] + 1, row[j - 1] + 1, one_back[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, two_back[j - 2] + 1)
            row.append(cost)
        two_back, one_back = one_back, row
    return one_back[-1]


def nearest(name: str, names: Iterable[str], *, most: int = 3) -> list[str]:
    """Pick the known names that `name` was probably meant to be, the likeliest first, or none."""
    limit = max(1, len(name) // 3)
    like = [known for known in set(names) if abs(len(known) - len(name)) <= limit]
    ranked = sorted((edit_distance(name.lower(), known.lower()), known) for known in like)
    close = [(distance, known) for distance, known in ranked if distance <= limit]
    return [known for distance, known in close if distance <= close[0][0] + 1][:most]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Phrase the nearest known names as the end of an error message; empty where none is near."""
    close = nearest(name, names)
    return f" Did you mean {' or '.join(repr(known) for known in close)}?" if close else ""


def bullets(lines: Iterable[str]) -> str:
    """Set collected faults out one a line."""
    return "".join(f"\n  - {line}" for line in lines)
