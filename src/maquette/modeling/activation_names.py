"""A table of activation functions by the names that configurations use, whatever framework they are of."""

from typing import Any, TypeVar

from maquette.errors import UnknownNameError, did_you_mean

Function = TypeVar("Function")


class Activations(dict[str, Function]):
    """A dictionary whose error for an unknown name says the nearest known ones."""

    def __missing__(self, name: Any) -> Function:
        raise UnknownNameError(
            f"No activation function is called {name!r}.{did_you_mean(str(name), self)} There are: {', '.join(self)}."
        )
