"""What goes wrong between here and the Hub, each in one sentence that says which of all things it is."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from maquette.errors import FileFormatError, MaquetteError, MissingFileError, did_you_mean


@contextlib.contextmanager
def explaining(label: str, revision: str, name: str = "") -> Iterator[None]:
    """Turn what goes wrong between here and the Hub into one sentence that says which of all things it is."""
    try:
        yield
    except Exception as error:
        if is_unreachable(error):
            what = f"{name!r} of {label!r}" if name else repr(label)
            raise MissingFileError(f"The Hub could not be reached for {what}: {one_line(error)}.") from None
        if explained := explain_hub(label, revision, error):
            raise explained from None
        raise


def explain_hub(label: str, revision: str, error: Exception) -> MaquetteError | None:
    """Give the error to raise for what the Hub's client raised, or None for what has nothing to do with the Hub."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return MissingFileError(f"{label!r} is gated: ask for access on its page, then pass `token=` or log in.")
    if isinstance(error, errors.RevisionNotFoundError):
        return MissingFileError(f"{label!r} on the Hub has no revision {revision!r}.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return not_found(label)
    if isinstance(error, errors.LocalTokenNotFoundError):
        return MissingFileError(f"{label!r} was asked for with token=True, but nobody is logged in to the Hub here.")
    if type(error) is OSError and str(error).startswith("Consistency check failed"):
        return FileFormatError(f"A file of {label!r} arrived with another size than it has on the Hub. Load it again.")
    if isinstance(error, errors.HfHubHTTPError):
        if error.response.status_code == 401:
            return MissingFileError(f"{label!r} was asked for with a token that is not valid (any more). Log in again.")
        return MissingFileError(f"The Hub refused {label!r}: {one_line(error)}.")
    return None


def not_found(label: str) -> MissingFileError:
    """Give the error for a name that is neither here nor there."""
    return MissingFileError(
        f"{label!r} is neither a local folder nor a repository on the Hub that you may see.{similar_folders(label)} "
        "For a private repository, pass `token=` or log in."
    )


def is_unreachable(error: BaseException | None) -> bool:
    """Tell a Hub that cannot be reached, or is out of order or overrun, from one that answers no."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if (response := getattr(error, "response", None)) is not None:
        return bool(response.status_code >= 500 or response.status_code == 429)
    # huggingface_hub speaks through httpx, httpx2 or requests, by its version
    return isinstance(error, LocalEntryNotFoundError | ConnectionError | TimeoutError) or any(
        base.__module__.partition(".")[0] in {"httpx", "httpx2", "requests"} for base in type(error).__mro__
    )


def is_missing_revision(error: BaseException | None) -> bool:
    """Tell the answer that a repository is there, and this branch, tag or commit of it is not."""
    from huggingface_hub.errors import RevisionNotFoundError

    return isinstance(error, RevisionNotFoundError)


def one_line(error: BaseException) -> str:
    """Give the first line of an error's message, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def similar_folders(label: str) -> str:
    """Suggest a folder that lies where one of this name would."""
    place = Path(label).parent
    return did_you_mean(Path(label).name, (name for name in entries(place) if os.path.isdir(place / name)))


def entries(folder: Path) -> list[str]:
    """List what lies in a folder, as far as it may be read; of a very large one, a part."""
    try:
        with os.scandir(folder) as found:
            return [entry.name for entry in itertools.islice(found, 1000)]
    except OSError:
        return []
