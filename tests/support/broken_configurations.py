"""Configurations that each break one promise; the conformance kit has to name the culprit."""

import itertools
from typing import Any

from maquette import PretrainedConfig

_serial = itertools.count()
STAGES = [[1, 2], [3]]


class Numbered(PretrainedConfig):
    def __init__(self, dim: int = 4, **kwargs: Any) -> None:
        self.dim = dim
        self.serial = next(_serial)
        super().__init__(**kwargs)


class Doubling(PretrainedConfig):
    def __init__(self, dim: int = 4, **kwargs: Any) -> None:
        self.dim = 2 * dim
        super().__init__(**kwargs)


class NumberKeys(PretrainedConfig):
    def __init__(self, kinds: Any = {1: "a"}, **kwargs: Any) -> None:  # noqa: B006
        self.kinds = kinds
        super().__init__(**kwargs)


class ReadsOtherwise(PretrainedConfig):
    dim: int = 4

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        return super().from_pretrained(*args, **{"dim": 5, **kwargs})


class OwnCopy(PretrainedConfig):
    sizes: list[int] = [1]  # noqa: RUF012

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class HoldsFunction(PretrainedConfig):
    def __init__(self, dim: int = 4, **kwargs: Any) -> None:
        self.dim = dim
        self.rule = lambda x: x
        super().__init__(**kwargs)


class Swallowing(PretrainedConfig):
    def __init__(self, width: int = 4, **kwargs: Any) -> None:
        self.width = width
        super().__init__()


class TakesAnyAttribute(PretrainedConfig):
    width: int = 4

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value


class SharesStages(PretrainedConfig):
    dim: int = 4

    def validate(self) -> None:
        vars(self)["stages"] = STAGES  # past everything that would have copied it


class HidesItsAlias(PretrainedConfig):
    aliases = {"hidden_size": "dim"}  # noqa: RUF012
    dim: int = 4

    @property
    def hidden_size(self) -> int:
        return 2 * self.dim


class Stubborn(PretrainedConfig):
    def __init__(self, dim: int = 4, depth: int = 2, **kwargs: Any) -> None:
        self.dim = 4
        super().__init__(**kwargs)


class SeesNoDifference(PretrainedConfig):
    dim: int = 4

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None
