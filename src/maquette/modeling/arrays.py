"""Models whose weights can be read and set as arrays: what Keras and Flax models share. No framework is imported.

A framework supplies three hooks: `_build` makes a model, `_variables` gives its variables by their paths, and
`_with_arrays` gives the model with other values. The rest is `checkpoint.axes`: names, and the order of axes.
"""

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, ClassVar

import numpy as np

from maquette.checkpoint import FLOATS, Checkpoint, ExpectedParameters, LoadReport
from maquette.checkpoint.axes import Path, from_torch, to_torch, torch_name, torch_shape
from maquette.errors import SaveError, bullets, did_you_mean
from maquette.modeling.common import ModelMixin, check_ties
from maquette.modeling.model_view import draw_model, plant
from maquette.storage.html_view import never_raising

COUNT = "num_batches_tracked"  # torch's batch normalisation counts; nothing else does


class ArrayModelMixin(ModelMixin):
    """Loading, saving and resizing of models whose variables have paths like torch's names.

    Class attributes:
        _tied_weights_keys: names in files of weights that, with `config.tie_word_embeddings`, are another weight.
    """

    _tied_weights_keys: ClassVar[Mapping[str, str]] = {}
    _keys_to_ignore_on_save: ClassVar[tuple[str, ...]] = ()
    _shares_variables: ClassVar[bool] = True  # one variable in two places is one weight

    # Hooks -----------------------------------------------------------------------------------------------------

    def _variables(self) -> dict[Path, Any]:
        """Give every variable that is saved, trainable or not, by its path; shared ones under each of their paths."""
        raise NotImplementedError

    def _with_arrays(self, arrays: Mapping[Path, "np.ndarray[Any, Any]"]) -> Any:
        """Give the model with these values, in the framework's order of axes, for some of its variables."""
        raise NotImplementedError

    def _check_saveable(self) -> None:
        """Refuse a model that has variables which would not be saved."""

    @never_raising
    def _repr_html_(self) -> str:
        named = ((tuple(torch_name(path).split(".")), variable, first) for path, variable, first in self._named())
        return draw_model(plant(type(self).__name__, named))

    # Loading ---------------------------------------------------------------------------------------------------

    def _named(self) -> Iterator[tuple[Path, Any, str]]:
        """Give every variable's path, itself, and the first name in files of the one it is."""
        first: dict[Any, str] = {}
        for path, variable in self._variables().items():
            name = torch_name(path)
            yield path, variable, first.setdefault(id(variable) if self._shares_variables else name, name)

    @classmethod
    def _slots(cls, model: Any, checkpoint: Checkpoint) -> ExpectedParameters:
        model._check_saveable()
        slots = ExpectedParameters({})
        for path, variable, first in model._named():
            if torch_name(path) != first:
                slots.aliases[torch_name(path)] = first
            else:
                slots.shapes[first] = torch_shape(path, variable.shape)
        slots.aliases |= {name: slots.aliases.get(source, source) for name, source in model._ties().items()}
        return slots

    def _ties(self) -> dict[str, str]:
        return dict(self._tied_weights_keys) if self.config.tie_word_embeddings else {}

    @classmethod
    def _read_weights(cls, model: Any, checkpoint: Checkpoint) -> dict[str, Any]:
        weights: dict[str, Any] = checkpoint.tensors(checkpoint.shapes, framework="np")
        return weights

    @classmethod
    def _unexpected_patterns(cls) -> tuple[str, ...]:
        return (*super()._unexpected_patterns(), rf"\.{COUNT}$")

    @classmethod
    def _fill(cls, model: Any, pending: Any, weights: Mapping[str, Any], report: LoadReport, *, dtype: Any) -> Any:
        check_ties(report, weights)
        arrays = {}
        for path, variable in model._variables().items():
            if key := report.assigned.get(torch_name(path)):
                arrays[path] = from_torch(path, weights[key], variable.shape).astype(variable.dtype, copy=False)
        filled = model._with_arrays(arrays)
        counts = {_count_of(name): weights.get(_count_of(key)) for name, key in report.assigned.items()}
        object.__setattr__(
            filled, "_batch_counts", {name: value for name, value in counts.items() if value is not None}
        )
        return filled

    def _choose_places(self, device_map: Any, checkpoint: Checkpoint, *, dtype: Any, **options: Any) -> Any:
        if device_map is not None:
            raise ValueError(
                f"device_map={device_map!r}: {type(self).__name__} lies where its framework puts it. Choose the device "
                "with the framework: jax.default_device, or tf.device."
            )

    # Saving ----------------------------------------------------------------------------------------------------

    def _export(
        self, state_dict: Mapping[str, Any] | None
    ) -> tuple[dict[str, int], Callable[[list[str], FilePath], None]]:
        from safetensors.numpy import save_file

        self._check_saveable()
        tensors = self.state_arrays() if state_dict is None else _checked(state_dict, self.state_arrays())
        tensors = {name: array for name, array in tensors.items() if name not in self._keys_to_ignore_on_save}

        def write_file(names: list[str], path: FilePath) -> None:
            arrays = {name: np.asarray(tensors[name], order="C") for name in names}  # 0 axes stay 0 axes
            save_file(arrays, path, {"format": "pt"})

        return {name: array.nbytes for name, array in tensors.items()}, write_file

    def state_arrays(self) -> "dict[str, np.ndarray[Any, Any]]":
        """Give every weight as a numpy array, with the names and order of axes that files have; shared ones once."""
        found: dict[str, np.ndarray[Any, Any]] = {}
        counts: Mapping[str, Any] = getattr(self, "_batch_counts", {})
        for path, variable, name in self._named():
            if torch_name(path) != name:
                continue
            found[name] = to_torch(path, np.asarray(variable))
            if name.endswith(".running_mean"):
                count = _count_of(name)
                found[count] = np.asarray(counts.get(count, 0), dtype=np.int64)
        return found

    def _dtype_name(self) -> str | None:
        counts: Counter[str] = Counter()
        for variable in self._variables().values():
            counts[_type_name(variable)] += math.prod(variable.shape)
        return next((kind for kind, _ in counts.most_common() if kind in FLOATS.values()), "float32")

    # What a model says of itself -------------------------------------------------------------------------------

    @property
    def base_model(self) -> Any:
        """The model without its head; itself where it has none."""
        return getattr(self, self.base_model_prefix, self) if self.base_model_prefix else self

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        """Small inputs that the model accepts; override where the default, token ids, does not fit."""
        if hasattr(self.config, "vocab_size"):
            return {self.main_input_name: np.arange(10, dtype=np.int32).reshape(2, 5) % self.config.vocab_size}
        raise NotImplementedError(
            f"{type(self).__name__} does not say what it takes: override `dummy_inputs`, a property that gives a small "
            "batch as a dictionary of numpy arrays. The model is built on it."
        )

    def num_parameters(self) -> int:
        """Count the numbers in all weights that are saved, shared ones once; statistics of norms count too."""
        return sum(math.prod(variable.shape) for path, variable, first in self._named() if torch_name(path) == first)

    # Reshaping -------------------------------------------------------------------------------------------------

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, *, pad_to_multiple_of: int | None = None
    ) -> Any:
        """Fit the vocabulary to a tokenizer; gives the model: a Keras model itself, of a Flax model a new one.

        Rows that both sizes have keep their values, in the input embeddings as in the output layer and its bias. New
        rows are initialised as the model initialises them, and `config.vocab_size` follows.

        Args:
            new_num_tokens: rows wanted; unless given, as many as there are.
            pad_to_multiple_of: round up, for the sake of fast matrix products.

        Raises:
            ValueError: a size below one.
        """
        size = self.config.vocab_size if new_num_tokens is None else new_num_tokens
        if not isinstance(size, int) or size < 1 or (pad_to_multiple_of is not None and pad_to_multiple_of < 1):
            raise ValueError(
                f"resize_token_embeddings({new_num_tokens}, pad_to_multiple_of={pad_to_multiple_of}): sizes start at 1."
            )
        if pad_to_multiple_of:
            size = -(-size // pad_to_multiple_of) * pad_to_multiple_of
        config = copy.deepcopy(self.config)
        config.vocab_size = size
        resized = self._rebuilt(config)
        olds = {path: np.asarray(variable) for path, variable in self._variables().items()}
        news = {path: np.asarray(variable) for path, variable in resized._variables().items()}
        _check_resized(olds, news, self.config.vocab_size, size)
        arrays = {path: _keep_rows(path, olds[path], new) for path, new in news.items()}
        return self._become(resized._with_arrays(arrays))

    def _rebuilt(self, config: Any) -> Any:
        """Give a model like this one, of another configuration, with fresh weights of the same type."""
        return type(self).from_config(config, dtype=self._dtype_name())

    def _become(self, other: Any) -> Any:
        """Take over the weights of another model of the class whose shapes may differ; give what is to be used."""
        return other


def _check_resized(
    olds: "Mapping[Path, np.ndarray[Any, Any]]", news: "Mapping[Path, np.ndarray[Any, Any]]", old: int, new: int
) -> None:
    """See that a model was rebuilt as it was, but for rows that belong to vocabulary entries."""
    wrong = [torch_name(path) for path in olds.keys() ^ news.keys()]
    for path in olds.keys() & news.keys():
        mine, theirs = (torch_shape(path, arrays[path].shape) for arrays in (olds, news))
        if mine != theirs and (mine[:1], theirs[:1], mine[1:]) != ((old,), (new,), theirs[1:]):
            wrong.append(f"{torch_name(path)}: {mine}, rebuilt {theirs}")
    if wrong:
        raise ValueError(
            f"The model cannot be rebuilt with {new} vocabulary entries; these do not come out as they were:"
            f"{bullets(sorted(wrong))}\nWhat the constructor takes besides the configuration has to be in get_config "
            "(Keras) or in a field (Flax)."
        )


def _keep_rows(path: Path, old: "np.ndarray[Any, Any]", new: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Give `new` with the rows of `old`; what is counted by vocabulary entries has them first in files."""
    fresh, kept = to_torch(path, new).copy(), to_torch(path, old)
    rows = min(len(fresh), len(kept)) if fresh.ndim else 0
    if fresh.ndim:
        fresh[:rows] = kept[:rows]
    else:
        fresh = kept
    return from_torch(path, fresh, new.shape)


def _count_of(name: str) -> str:
    return f"{name.removesuffix('running_mean')}{COUNT}" if name.endswith("running_mean") else ""


def _type_name(variable: Any) -> str:
    kind = variable.dtype
    return str(getattr(kind, "name", kind))


def _checked(given: Mapping[str, Any], own: "Mapping[str, np.ndarray[Any, Any]]") -> "dict[str, np.ndarray[Any, Any]]":
    """Read weights that a caller wants saved in place of the model's own.

    Raises:
        SaveError: names that the model does not have, or that are missing.
    """
    faults = [f"{name}: not in the model.{did_you_mean(name, own)}" for name in given.keys() - own.keys()]
    faults += [f"{name}: missing" for name in own.keys() - given.keys()]
    if faults:
        raise SaveError(f"state_dict does not fit the model:{bullets(sorted(faults))}")
    return {name: np.asarray(given[name]) for name in own}
