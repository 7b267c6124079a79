"""What preprocessing classes give back: arrays or tensors by name."""

from collections import UserDict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from maquette.batch.padding import holds_tensors, ragged
from maquette.batch.tensors import add_container, check_framework, framework_of, move, to_numpy, to_tensor
from maquette.batch.view import show_batch
from maquette.errors import did_you_mean


class BatchFeature(UserDict[str, Any]):
    """What a preprocessing class gives: arrays or tensors by name, which are attributes too.

    Args:
        data: the values, by name.
        tensor_type: "np", "pt", "tf" or "jax", to turn the values into.
    """

    _called: ClassVar[str] = "batch"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        add_container(cls)

    def __init__(self, data: Mapping[str, Any] | None = None, tensor_type: str | None = None) -> None:
        self.data: dict[str, Any] = dict(data or {})
        if tensor_type is not None:
            self.convert_to_tensors(tensor_type)

    def __getitem__(self, item: Any) -> Any:
        if item not in self.data:
            raise KeyError(f"{item!r} is not in this {self._suggest(str(item))}")
        return self.data[item]

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})
        if name in data:
            return data[name]
        raise AttributeError(f"{name!r} is not in this {self._suggest(name)}")

    @classmethod
    def _rebuild(cls, names: Iterable[str], values: Iterable[Any]) -> Self:
        """Make a batch of what a framework's pytrees put in the place of its values."""
        return cls(dict(zip(names, values, strict=True)))

    def _suggest(self, name: str) -> str:
        data = self.__dict__.get("data", {})
        return f"{self._called}.{did_you_mean(name, data)} It has: {', '.join(map(str, data))}."

    _repr_html_ = show_batch

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, data=dict(self.data))
        return other

    def convert_to_tensors(self, tensor_type: str | None = None) -> Self:
        """Turn every value into a tensor of the given kind, in place; gives itself.

        Arrays keep their number type, lists of Python's floats become float32.

        Raises:
            InputError: rows of different lengths, or what is no numbers.
        """
        if tensor_type is None:
            return self
        framework = check_framework(tensor_type)
        for name, value in self.data.items():
            if framework_of(value) != framework:
                self.data[name] = to_tensor(_feature_array(name, value), framework)
        return self

    def to(self, device: Any = None, dtype: Any = None, *, non_blocking: bool = False) -> Self:
        """Put the torch tensors on a device, and those of real numbers into a number type, in place; gives itself.

        Args:
            device: where to; a torch.dtype here is taken as `dtype`.
            dtype: for tensors of real numbers; whole numbers, such as ids, stay what they are.
            non_blocking: as in torch.
        """
        if type(device).__name__ == "dtype":
            device, dtype = None, device
        for name, value in self.data.items():
            if device is not None:
                value = move(value, device, non_blocking=non_blocking)
            if dtype is not None and framework_of(value) == "pt" and value.is_floating_point():
                value = value.to(dtype)
            self.data[name] = value
        return self


add_container(BatchFeature)


def _feature_array(name: str, value: Any) -> "np.ndarray[Any, Any]":
    try:
        array = to_numpy(value)
    except ValueError:
        array = value
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise ragged(name, [len(row) for row in value if hasattr(row, "__len__") and not isinstance(row, str)])
    return array.astype(np.float32) if array.dtype == np.float64 and not holds_tensors([value]) else array
