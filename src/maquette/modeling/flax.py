"""`FlaxPreTrainedModel`, the base of every Flax model: a `flax.linen.Module` that carries its variables."""

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import maquette.modeling.jax_trees  # noqa: F401 - lets JAX see inside outputs
from maquette.checkpoint import Checkpoint
from maquette.checkpoint.axes import Path, flatten, torch_name, unflatten
from maquette.configuration import PretrainedConfig
from maquette.errors import SaveError, bullets
from maquette.modeling.arrays import ArrayModelMixin

PASSING = frozenset({"intermediates", "cache"})  # collections that are made anew by every call


class FlaxPreTrainedModel(ArrayModelMixin, nn.Module):
    """A Flax module that is made from a configuration, saved to a folder, and loaded back exactly.

    Set `config_class`, make submodules in `setup`, and write `__call__`. The names of submodules are the names in
    files: use the torch model's, and keep several in a list.

    `from_pretrained` and `from_config` give a model bound to its variables, which can be called. `jit` and training
    want the two apart: `module, variables = model.unbind()`, then `module.apply(variables, …)`, and at the end
    `module.bind(variables).save_pretrained(folder)`.

    Class attributes:
        config_class: the configuration that makes this model.
        base_model_prefix: the attribute under which models with a head keep the base model.
        main_input_name: the first argument of `__call__`.
    """

    _default_auto_class: ClassVar[str] = "FlaxAutoModel"
    _shares_variables: ClassVar[bool] = False  # arrays never change, so one that is in two places ties nothing
    config: Any = dataclasses.field(hash=False)  # compared by value, so it has no hash

    def __post_init__(self) -> None:
        if not isinstance(self.config, PretrainedConfig):
            raise TypeError(
                f"{type(self).__name__} is made from a configuration, not from a {type(self.config).__name__}. To load "
                f"saved weights, use {type(self).__name__}.from_pretrained(name_or_path)."
            )
        super().__post_init__()

    # Construction ----------------------------------------------------------------------------------------------

    def init_variables(self, seed: int = 0) -> dict[str, Any]:
        """Draw fresh variables for `dummy_inputs`: parameters, and statistics of norms."""
        variables = self.init(jax.random.key(seed), **self.dummy_inputs)
        return {name: tree for name, tree in variables.items() if name not in PASSING}

    @classmethod
    def from_config(cls, config: PretrainedConfig, *, dtype: Any = None, seed: int = 0, **kwargs: Any) -> Any:
        """Build a model with fresh weights, bound to them.

        Args:
            config: what to build.
            dtype: the floating-point type of the weights.
            seed: of the random numbers.
            kwargs: further fields of the module, and fields of the configuration, which change a copy of it.
        """
        config, kwargs = cls._override(config, kwargs)
        module = cls(config, **kwargs)
        return module.bind(jax.tree.map(functools.partial(_cast, dtype=dtype), module.init_variables(seed)))

    _from_config = from_config

    @classmethod
    def _sort_keywords(cls, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        seed = {"seed": kwargs.pop("seed")} if "seed" in kwargs else {}
        own, overrides = super()._sort_keywords(kwargs)
        return own | seed, overrides

    @classmethod
    def _build(
        cls,
        config: PretrainedConfig,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        dtype: Any,
        checkpoint: Checkpoint,
    ) -> tuple[Any, int]:
        """Bind a module to the shapes of its variables; those that stay without a value are drawn later."""
        seed = kwargs.pop("seed", 0)
        module = cls(config, *args, **kwargs)
        wanted = checkpoint.floating_type() if dtype in (None, "auto") else dtype
        shapes, places = _trace(module)
        model = module.bind(jax.tree.map(functools.partial(_cast, dtype=wanted), shapes))
        object.__setattr__(model, "_found_places", places)
        return model, seed

    @classmethod
    def _fill(cls, model: Any, pending: int, *args: Any, **options: Any) -> Any:
        filled = super()._fill(model, pending, *args, **options)
        waiting = [path for path, leaf in filled._variables().items() if _is_shape(leaf)]
        if waiting:
            fresh = _by_name(filled.unbind()[0].init_variables(pending), filled._places())
            filled = filled._with_arrays({path: np.asarray(fresh[path]) for path in waiting})
        return filled

    # Weights ---------------------------------------------------------------------------------------------------

    def _variables(self) -> dict[Path, Any]:
        if self.scope is None:
            raise ValueError(
                f"This {type(self).__name__} has no variables: bind it to some, module.bind(variables), or make it "
                "with from_pretrained or from_config."
            )
        return _by_name(self.variables, self._places())

    def _places(self) -> Mapping[Path, Path]:
        """Give the names of submodules and kernels that their keys do not tell, by the keys that lead there."""
        if "_found_places" not in self.__dict__:
            object.__setattr__(self, "_found_places", _trace(self.unbind()[0])[1])
        found: Mapping[Path, Path] = self.__dict__["_found_places"]
        return found

    def _with_arrays(self, arrays: "Mapping[Path, np.ndarray[Any, Any]]") -> Any:
        places, trees = self._places(), {}
        for collection, tree in self.variables.items():
            leaves = {
                path: jnp.asarray(arrays[path], dtype=leaf.dtype) if path in arrays else leaf
                for path, leaf in flatten(tree, places).items()
            }
            trees[collection] = unflatten(tree, leaves, places)
        model = self.unbind()[0].bind(trees)
        for name in ("_batch_counts", "_found_places"):
            object.__setattr__(model, name, self.__dict__.get(name, {}))
        return model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Save configuration, weights, and code that was registered to go along, into one folder.

        Args:
            save_directory: a folder, made where it is missing. Its other files stay as they are.
            params: what to save instead of the variables the model is bound to: all variables, `{"params": …, …}`, or
                the parameters alone.
            options: as those of torch models.
        """
        model = self if params is None else self._bound_to(params)
        ArrayModelMixin.save_pretrained(model, save_directory, **options)

    def _check_saveable(self) -> None:
        """Compare names and shapes with those the module makes; while it is loaded they are these."""
        if self.scope is not None and any(map(_is_shape, jax.tree.leaves(self.variables))):
            return
        found = self._variables()
        shapes, places = _trace(self.unbind()[0])
        wanted = _by_name(shapes, places)
        faults = [f"{torch_name(path)}: not there" for path in wanted.keys() - found.keys()]
        faults += [f"{torch_name(path)}: nothing of the model" for path in found.keys() - wanted.keys()]
        faults += [
            f"{torch_name(path)}: {found[path].shape}, where {wanted[path].shape} belongs"
            for path in found.keys() & wanted.keys()
            if found[path].shape != wanted[path].shape
        ]
        if faults:
            raise SaveError(
                f"The variables are not those of {type(self).__name__}:{bullets(sorted(faults))}\nGive all of them, as "
                "unbind() does: {'params': …}, and 'batch_stats' where there are some."
            )

    def _rebuilt(self, config: Any) -> Any:
        module = self.unbind()[0].clone(config=config, parent=None)
        return module.bind(jax.tree.map(functools.partial(_cast, dtype=self._dtype_name()), module.init_variables()))

    def _bound_to(self, params: Mapping[str, Any]) -> Any:
        rest = {} if self.scope is None else self.variables
        module = self if self.scope is None else self.unbind()[0]
        return module.bind(dict(params) if "params" in params else {**rest, "params": params})

    @property
    def dtype(self) -> Any:
        """The floating-point type of the parameters the module is bound to; float32 for one that has none yet."""
        leaves = jax.tree.leaves(self.variables) if self.scope is not None else []
        return next((leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)), jnp.dtype("float32"))


def _trace(module: Any) -> tuple[dict[str, Any], dict[Path, Path]]:
    """Run a module's initialisation on shapes alone; gives these, and what its submodules tell of names.

    Members of lists and dictionaries have keys such as `layers_1`, and a transposed convolution that is no
    `transpose_kernel` has torch's kernel turned round.
    """
    places: dict[Path, Path] = {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        inner: Any = context.module
        if inner.scope is not None and inner.path:
            held = ((name, value) for name, value in vars(inner.parent).items() if inner.name.startswith(f"{name}_"))
            found = next((path for name, value in held if (path := _path_in(value, inner, (name,)))), None)
            places.update({inner.path: found} if found else {})
            if isinstance(inner, nn.ConvTranspose) and not inner.transpose_kernel:
                places[*inner.path, "kernel"] = ("flipped_kernel",)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        shapes = jax.eval_shape(module.init_variables)
    return shapes, places


def _path_in(value: Any, wanted: Any, path: Path) -> Path | None:
    """Find where in lists and dictionaries a submodule is."""
    if value is wanted:
        return path
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    else:
        items = enumerate(value) if isinstance(value, list | tuple) else ()
    return next((found for key, item in items if (found := _path_in(item, wanted, (*path, str(key))))), None)


def _by_name(variables: Mapping[str, Any], places: Mapping[Path, Path]) -> dict[Path, Any]:
    """Give variables by their paths, the names of collections left out.

    Raises:
        SaveError: two collections have a variable of one name.
    """
    found: dict[Path, Any] = {}
    for collection in [name for name in variables if name not in PASSING]:
        leaves = flatten(variables[collection], places)
        if both := sorted(torch_name(path) for path in leaves.keys() & found.keys()):
            raise SaveError(
                f"{both[0]} is in {collection!r} and in another collection, but files have one of each name: leave the "
                "collection out of what is bound, or name its variables otherwise."
            )
        found |= leaves
    return found


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _cast(leaf: Any, *, dtype: Any) -> Any:
    """Give an array, or the shape of one, in a floating-point type, where it is of one."""
    if dtype is None or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    kind = jax.dtypes.canonicalize_dtype(jnp.dtype(dtype))
    return jax.ShapeDtypeStruct(leaf.shape, kind) if _is_shape(leaf) else leaf.astype(kind)
