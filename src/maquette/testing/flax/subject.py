"""A Flax model under examination."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax

from maquette.checkpoint.axes import NUMBERED, Path, flatten
from maquette.modeling.flax import PASSING
from maquette.testing.arrays.saving import ties_of
from maquette.testing.arrays.subject import ArrayObservation, Arrays, ArraySubject, arrays_in, snapshot
from maquette.testing.report import Fault


def set_threads(count: int) -> None:
    """Leave threads to XLA."""


class Observation(ArrayObservation):
    """What can be seen of a Flax model."""

    @classmethod
    def of(cls, model: Any, inputs: Mapping[str, Any]) -> "Observation":
        return cls(snapshot(model.state_arrays()), arrays_in(model(**inputs)), ties_of(model))


class Subject(ArraySubject):
    """A Flax model under examination. JAX keeps the operations that it compiled, so plain runs are quick."""

    observation = Observation
    foreign = frozenset({"torch", "tensorflow", "keras"})
    method = "__call__"
    training = "train"

    def make(self, config: Any, seed: int) -> Any:
        module = self.model_class(config)
        return module.bind(module.init_variables(seed))

    def from_config(self, config: Any, seed: int, *, dtype: str | None = None) -> Any:
        return self.model_class.from_config(config, dtype=dtype, seed=seed)

    def call(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        return model(**inputs)

    def compiled(self, model: Any, inputs: Mapping[str, Any]) -> Arrays:
        module, variables = model.unbind()
        return arrays_in(jax.jit(module.apply)(variables, **inputs))

    def paths(self, model: Any) -> list[tuple[Path, Any]]:
        """List paths without the collections' names, so that two collections can have one path."""
        trees = [tree for collection, tree in model.variables.items() if collection not in PASSING]
        return [item for tree in trees for item in flatten(tree, model._places()).items()]

    def strays(self, model: Any) -> Iterator[Fault]:
        """Find submodules that are called like members of a list and are none."""
        for collection, tree in model.variables.items():
            if collection not in PASSING:
                for path in _numbered(model, tree, ()):
                    stem, number = path[-1].rsplit("_", 1)
                    place = ".".join(path)
                    yield Fault(
                        f"`{place}` is no member of a list, but called like one: files call it "
                        f"`{'.'.join([*path[:-1], stem, number])}`",
                        f"make submodules in setup, and keep several in a list, self.{stem} = […], or give it a name "
                        "that ends in no number",
                    )


def _numbered(module: Any, tree: Mapping[str, Any], start: Path) -> Iterator[Path]:
    """Find the paths of submodules with a number at the end that no list attribute accounts for."""
    for key, inner in tree.items():
        found = NUMBERED.fullmatch(key)
        if found and f"{found[1]}_0" in tree:
            members = getattr(module, found[1], None)
            if not isinstance(members, list | tuple):
                yield (*start, key)
                continue
            child = members[int(found[2])] if int(found[2]) < len(members) else None
        else:
            child = getattr(module, key, None)
        if isinstance(inner, Mapping):
            yield from _numbered(child, inner, (*start, key))


def training_options(subject: Subject) -> dict[str, Any]:
    """Give what `apply` needs for training besides inputs: `train`, where the model takes it, and random numbers."""
    kinds = {parameter.kind for parameter in subject.parameters.values()}
    takes = "train" in subject.parameters or any(kind.name == "VAR_KEYWORD" for kind in kinds)
    told = {"train": True} if takes else {}
    return {"rngs": {"dropout": jax.random.key(4)}, "mutable": ["batch_stats"], **told}
