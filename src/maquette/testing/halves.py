"""Which half of the kit examines a model class: the one named as its framework is, `torch`, `tf` or `flax`."""

from typing import Any

# By the top-level package of the framework's base class.
HALVES = {"torch": "torch", "keras": "tf", "flax": "flax"}


def half_of(model_class: Any) -> str:
    """Name the half.

    Raises:
        TypeError: not a model class of a framework.
    """
    packages = [base.__module__.partition(".")[0] for base in getattr(model_class, "__mro__", ())]
    found = next((HALVES[package] for package in packages if package in HALVES), None)
    if found is None:
        raise TypeError(
            f"check_model examines model classes made with {', '.join(HALVES)}; {model_class!r} is none. Pass the "
            "class, not an instance or a function."
        )
    return found
