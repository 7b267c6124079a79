"""`FlaxPreTrainedModel`, the base of every Flax model: a `flax.linen.Module` that carries its variables."""

import dataclasses
import functools
import os
from collections.abc import Mapping
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
        shapes = jax.eval_shape(module.init_variables)
        return module.bind(jax.tree.map(functools.partial(_cast, dtype=wanted), shapes)), seed

    @classmethod
    def _fill(cls, model: Any, pending: int, *args: Any, **options: Any) -> Any:
        filled = super()._fill(model, pending, *args, **options)
        waiting = [path for path, leaf in filled._variables().items() if isinstance(leaf, jax.ShapeDtypeStruct)]
        if waiting:
            fresh = _by_name(filled.unbind()[0].init_variables(pending))
            filled = filled._with_arrays({path: np.asarray(fresh[path]) for path in waiting})
        return filled

    # Weights ---------------------------------------------------------------------------------------------------

    def _variables(self) -> dict[Path, Any]:
        if self.scope is None:
            raise ValueError(
                f"This {type(self).__name__} has no variables: bind it to some, module.bind(variables), or make it "
                "with from_pretrained or from_config."
            )
        return _by_name(self.variables)

    def _with_arrays(self, arrays: "Mapping[Path, np.ndarray[Any, Any]]") -> Any:
        leaves = {
            path: jnp.asarray(arrays[path[1:]], dtype=leaf.dtype) if path[1:] in arrays else leaf
            for path, leaf in flatten(self.variables).items()
        }
        model = self.unbind()[0].bind(unflatten(self.variables, leaves))
        object.__setattr__(model, "_batch_counts", self.__dict__.get("_batch_counts", {}))
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
        found = self._variables()
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in found.values()):
            return
        wanted = _by_name(jax.eval_shape(self.unbind()[0].init_variables))
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


def _by_name(variables: Mapping[str, Any]) -> dict[Path, Any]:
    """Give variables by their paths, the names of collections left out.

    Raises:
        SaveError: two collections have a variable of one name.
    """
    found: dict[Path, Any] = {}
    for path, leaf in flatten(variables).items():
        if path[0] in PASSING:
            continue
        if path[1:] in found:
            raise SaveError(
                f"{torch_name(path[1:])} is in {path[0]!r} and in another collection, but files have one of each name: "
                "leave the collection out of what is bound, or name its variables otherwise."
            )
        found[path[1:]] = leaf
    return found


def _cast(leaf: Any, *, dtype: Any) -> Any:
    """Give an array, or the shape of one, in a floating-point type, where it is of one."""
    if dtype is None or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    kind = jax.dtypes.canonicalize_dtype(jnp.dtype(dtype))
    return jax.ShapeDtypeStruct(leaf.shape, kind) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf.astype(kind)
