"""Which weights a gradient reaches, in models that choose among several layers by the values of their input."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from maquette.testing.report import Fault, Unchecked

TRIES = 4


def judge_reach(
    names: Collection[str], first: Mapping[str, Any], vary: Callable[[int], Collection[str]], *, what: str, fix: str
) -> Iterator[Fault | Unchecked]:
    """Name the weights without a gradient; an expert that no token chose is none of them.

    Where the model as it is misses some, others of the same configuration are tried. What still is missing counts as
    not chosen if a sibling, another member of its list, is reached in some tries and missed in others.

    Args:
        names: of all trainable weights.
        first: the gradients that the model as it is has, by name.
        vary: gives the names that are reached in a model with other weights.
        what: what a weight is called.
        fix: how to fix one that is missed.
    """
    if not set(names) - first.keys():
        return
    tries = [set(first), *(set(vary(number)) for number in range(TRIES))]
    chosen = {_places(name) for name in names if len({name in reached for reached in tries}) > 1}
    varying = set().union(*chosen) if chosen else set()
    for name in names:
        if any(name in reached for reached in tries):
            continue
        if varying & _places(name):
            yield Unchecked(f"`{name}`", f"in {len(tries)} models, no input chose it among the members of its list")
        else:
            yield Fault(f"{what} `{name}` receives no gradient", fix)


def _places(name: str) -> frozenset[str]:
    """Give the name with each of its numbers left open in turn: what it shares with its siblings."""
    return frozenset(f"{name[: n.start()]}#{name[n.end() :]}" for n in re.finditer(r"(?<=\.)\d+(?=\.)", name))
