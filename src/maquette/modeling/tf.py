"""`TFPreTrainedModel`, the base of every Keras model. It runs on whichever backend Keras runs on, TensorFlow or JAX."""

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import optree
from keras import layers

from maquette.batch.tensors import watch_containers
from maquette.checkpoint import Checkpoint
from maquette.checkpoint.axes import Path
from maquette.configuration import PretrainedConfig
from maquette.errors import SaveError, bullets
from maquette.modeling.arrays import ArrayModelMixin

_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("constructing a model inside of another", default=False)
_called: contextvars.ContextVar[Any] = contextvars.ContextVar("the model whose __call__ is under way", default=None)


class ModelMeta(type):
    """Finishes every construction: the outermost model is run on its dummy inputs, so that all variables are there."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if _inside.get():
            return super().__call__(*args, **kwargs)
        token = _inside.set(True)
        try:
            model = super().__call__(*args, **kwargs)
            _leave_building_to_run(model)
            model(**model.dummy_inputs)
        finally:
            _inside.reset(token)
        return model


class TFPreTrainedModel(ArrayModelMixin, keras.Model, metaclass=ModelMeta):
    """A Keras model that is made from a configuration, saved to a folder, and loaded back exactly.

    Set `config_class`, take `config` first in `__init__`, call `super().__init__(config)`, make layers, and write
    `call`. It is run once on `dummy_inputs` when it is made, so that every variable exists.

    The path of attributes to a variable is its name in files: name layers as the torch model does, and keep several in
    a list. Where Keras keeps a name for itself, write it with an underscore behind: `self.output_` is `output`. Compute
    with `keras.ops` alone, and the model runs on Keras' JAX backend too.

    Class attributes:
        config_class: the configuration that makes this model.
        base_model_prefix: the attribute under which models with a head keep the base model.
        main_input_name: the first argument of `call`.

    `compile`, `fit`, `predict` and `save` are Keras' own. Without a loss in `compile`, `fit` uses the one that the
    model returns when it is given labels, be they in the dictionary of inputs or beside it.
    """

    _default_auto_class = "TFAutoModel"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "call" in vars(cls):
            cls.call = _complete(cls.call)
        keras.saving.register_keras_serializable(package=cls.__module__)(cls)

    def __init__(self, config: PretrainedConfig, *inputs: Any, **kwargs: Any) -> None:
        if not isinstance(config, PretrainedConfig):
            raise TypeError(
                f"{type(self).__name__} is made from a configuration, not from a {type(config).__name__}. To load "
                f"saved weights, use {type(self).__name__}.from_pretrained(name_or_path)."
            )
        super().__init__(**kwargs)
        self.config = config

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = _called.set(self)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            _called.reset(token)

    def __dir__(self) -> list[str]:
        """Leave out `base_model`, which may be the model itself: Keras, when it loads, would never come out of it."""
        return [name for name in super().__dir__() if name != "base_model"]

    # Construction ----------------------------------------------------------------------------------------------

    @classmethod
    def _build(
        cls,
        config: PretrainedConfig,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        dtype: Any,
        checkpoint: Checkpoint,
    ) -> tuple[Any, None]:
        wanted = checkpoint.floating_type() if dtype in (None, "auto") else dtype
        with _variables_of(wanted):
            return cls(config, *args, **kwargs), None

    @classmethod
    def from_config(cls, config: Any, *, dtype: Any = None, **kwargs: Any) -> Any:
        """Build a model with fresh weights, in the floating-point type given.

        Keras calls this too, with what `get_config` gave.
        """
        if isinstance(config, Mapping):
            further = dict(config)
            fields, policy = further.pop("config"), further.pop("dtype", None)
            with _variables_of(policy and keras.dtype_policies.get(policy)):
                return cls(cls._require_config_class().from_dict(fields), **further)
        config, kwargs = cls._override(config, kwargs)
        with _variables_of(dtype):
            return cls(config, **kwargs)

    _from_config = from_config

    def get_config(self) -> dict[str, Any]:
        """Give what Keras needs to make the model again; add further arguments of the constructor by their names."""
        return {"config": self.config.to_dict(), "dtype": keras.dtype_policies.serialize(self.dtype_policy)}

    # Export ----------------------------------------------------------------------------------------------------

    def export(self, *args: Any, input_signature: Any = None, **options: Any) -> Any:
        """Export as Keras does. Unless told, the inputs are those of `dummy_inputs`, in one dictionary.

        The number of examples is left open, and so are the sizes that the model also runs with when they grow.
        """
        if input_signature is None and len(args) < 4:
            options["input_signature"] = [self._signature()]
        elif input_signature is not None:
            options["input_signature"] = input_signature
        return super().export(*args, **options)

    def _signature(self) -> dict[str, keras.InputSpec]:
        inputs = {name: np.asarray(value) for name, value in self.dummy_inputs.items()}
        open_sizes = {size for array in inputs.values() for size in array.shape[1:] if self._grows(inputs, size)}
        return {
            name: keras.InputSpec(
                shape=(None, *(None if size in open_sizes else size for size in array.shape[1:])),
                dtype=str(array.dtype),
                name=name,
            )
            for name, array in inputs.items()
        }

    def _grows(self, inputs: "Mapping[str, np.ndarray[Any, Any]]", size: int) -> bool:
        """Tell whether the model runs where all axes of a size, besides the first, are one longer."""
        widths = {name: [(0, 0), *((0, int(s == size)) for s in a.shape[1:])] for name, a in inputs.items()}
        try:
            self(**{name: np.pad(array, widths[name], mode="edge") for name, array in inputs.items()})
        except Exception:  # whatever the model or its layers say of another size
            return False
        return True

    # Weights ---------------------------------------------------------------------------------------------------

    def _variables(self) -> dict[Path, Any]:
        return dict(walk(self, ()))

    def _with_arrays(self, arrays: "Mapping[Path, np.ndarray[Any, Any]]") -> Any:
        variables = self._variables()
        for path, array in arrays.items():
            variables[path].assign(array)
        for layer in self._flatten_layers():
            if hasattr(layer, "finalize_state"):  # computes with what it makes of its variables
                layer.finalize_state()
        return self

    def _check_saveable(self) -> None:
        saved = {id(variable) for variable in self._variables().values()}
        strays = [variable.path for variable in self.weights if id(variable) not in saved]
        if strays:
            raise SaveError(
                f"{type(self).__name__}: no path of public attributes leads to these, so they have no name in files:"
                f"{bullets(strays)}\nKeep variables and layers in attributes without an underscore in front, and build "
                "attention of linear layers: keras.layers.MultiHeadAttention hides its own."
            )

    def _rebuilt(self, config: Any) -> Any:
        return type(self).from_config({**self.get_config(), "config": config.to_dict()})

    def _become(self, other: Any) -> Any:
        """Take layers of the other model where the shapes of their variables differ."""
        for place in list(_find_replacements(self, other)):
            _replace(*place)
        self.config.vocab_size = other.config.vocab_size
        self.base_model.config.vocab_size = other.config.vocab_size
        return self

    # Training --------------------------------------------------------------------------------------------------

    def fit(self, *args: Any, **options: Any) -> Any:
        """Train as Keras does. Weights of samples or classes need a loss that `compile` was told."""
        # Before Keras begins: on JAX, an error in the middle would cost the model its variables.
        self._refuse_weights(options.get("sample_weight"), options.get("class_weight"))
        return super().fit(*args, **options)

    def _refuse_weights(self, *weights: Any) -> None:
        if self._compile_loss is None and any(each is not None for each in weights):
            raise ValueError(
                f"{type(self).__name__} computes its own loss, which takes no weights of samples or classes: compile "
                "the model with a loss."
            )

    def train_step(self, *args: Any) -> Any:
        """Train on one batch; Keras calls it, with the state before the data where the backend keeps it outside."""
        return super().train_step(*args[:-1], self._with_labels(args[-1]))

    def test_step(self, *args: Any) -> Any:
        """Evaluate one batch, likewise."""
        return super().test_step(*args[:-1], self._with_labels(args[-1]))

    def _with_labels(self, data: Any) -> Any:
        """Give the labels to the model itself, where it is the one that computes the loss."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if y is not None and self._compile_loss is None:
            inputs = x if isinstance(x, Mapping) else {next(iter(inspect.signature(self.call).parameters)): x}
            x = {**inputs, **(y if isinstance(y, Mapping) else {"labels": y})}
        return x, y, weights

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Give the loss that `compile` was told, of the logits, or else the model's own."""
        if self._compile_loss is not None:
            compared = _compare(_labels(x, y), y_pred, self._compile_loss._user_loss)
            return super().compute_loss(x, *compared, sample_weight, training)
        self._refuse_weights(sample_weight)
        loss = y_pred.get("loss") if isinstance(y_pred, Mapping) else None
        if loss is None:
            raise ValueError(
                f"{type(self).__name__}.fit has nothing to learn from: give labels, as y or inside the dictionary of "
                "inputs, or compile the model with a loss."
            )
        return sum(self.losses, loss)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Update the metrics that `compile` was told, of the logits."""
        return super().compute_metrics(x, *_compare(_labels(x, y), y_pred), sample_weight)


def _leave_building_to_run(layer: keras.Layer) -> None:
    """Keep Keras from tracing layers without a `build`, each again inside the next: the run that follows builds all."""
    if getattr(layer.build, "_is_default", False):
        layer.built = True
        for value in vars(layer).values():
            for inner in _layers_in(value):
                if not inner.built:
                    _leave_building_to_run(inner)


def _complete(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let a model be called on one dictionary of arguments, and be told that it trains, as `fit` does both.

    Keras tells only a `call` that has an argument `training`; inner layers learn it from `__call__`, which Keras leaves
    out when it runs on JAX.
    """
    signature = inspect.signature(call)
    asks = "training" in signature.parameters

    @functools.wraps(call)
    def completed(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Mapping):
            args, kwargs = args[1:], {**args[0], **kwargs}
        if _called.get() is not self:
            return self(*args, **kwargs)
        if not asks:
            kwargs.pop("training", None)
        return call(self, *args, **kwargs)

    if not asks:
        training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
        known = list(signature.parameters.values())
        last = len(known) - any(one.kind is one.VAR_KEYWORD for one in known)
        changed: Any = completed
        changed.__signature__ = signature.replace(parameters=[*known[:last], training, *known[last:]])
    return completed


def _labels(x: Any, y: Any) -> Any:
    """Give the labels, which may be among the inputs."""
    return x.get("labels") if y is None and isinstance(x, Mapping) else y


def _compare(y: Any, output: Any, loss: Any = None) -> tuple[Any, Any]:
    """Give labels and outputs that Keras compares: those that losses or labels name, all scores where neither does.

    Raises:
        ValueError: a loss is named for what is no output.
    """
    if not isinstance(output, Mapping):
        return y, output
    scores = {name: value for name, value in output.items() if name not in ("loss", "hidden_states", "attentions")}
    by_name = isinstance(loss, Mapping)
    names = loss if by_name else y if isinstance(y, Mapping) and y.keys() <= scores.keys() else scores
    if unknown := [name for name in names if name not in output]:
        raise ValueError(f"compile names a loss for {unknown[0]!r}; the outputs are {', '.join(output)}.")
    if len(names) != 1:
        return y, {name: output[name] for name in names}
    (name,) = names
    if isinstance(y, Mapping):
        y = y.get(name, next(iter(y.values())))
    return ({name: y}, {name: output[name]}) if by_name else (y, output[name])


@contextlib.contextmanager
def _variables_of(dtype: Any) -> Iterator[None]:
    """Have layers made inside keep and compute numbers of a floating-point type, or policy; None changes nothing."""
    before = keras.config.dtype_policy()
    policy = before if dtype is None else dtype
    if not isinstance(policy, keras.DTypePolicy):
        kind = keras.backend.standardize_dtype(dtype)
        if kind not in ("float16", "bfloat16", "float32", "float64"):
            raise ValueError(f"dtype={dtype!r} is no floating-point type that Keras computes with.")
        policy = before if kind == before.variable_dtype else keras.DTypePolicy(kind)
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


# Names -----------------------------------------------------------------------------------------------------------


def walk(layer: keras.Layer, start: Path) -> Iterator[tuple[Path, Any]]:
    """Find the variables of a layer and of those inside it, by the attributes that lead to them."""
    own = {id(variable) for variable in _own(layer)}
    if isinstance(layer, keras.Sequential) or hasattr(layer, "operations"):  # which keep their layers to themselves
        for number, inner in enumerate(layer.layers):
            yield from walk(inner, (*start, str(number)))
    for name, value in vars(layer).items():
        if id(value) in own:
            yield (*start, *_leaf_of(layer, name.strip("_"))), value
        elif not name.startswith("_"):
            for path, inner in _parts_of(value, (name.rstrip("_"),)):
                if isinstance(inner, keras.Layer):
                    yield from walk(inner, (*start, *path))
                elif id(inner) in own:
                    yield (*start, *path), inner


def layers_by_path(layer: keras.Layer, start: Path = ()) -> Iterator[tuple[Path, keras.Layer]]:
    """Find the layers inside of one, by the paths that their variables have in files."""
    inner: list[tuple[Path, Any]] = []
    if isinstance(layer, keras.Sequential) or hasattr(layer, "operations"):
        inner += [((str(number),), each) for number, each in enumerate(layer.layers)]
    for name, value in vars(layer).items():
        inner += _parts_of(value, (name.rstrip("_"),)) if not name.startswith("_") else ()
    for path, each in inner:
        if isinstance(each, keras.Layer):
            yield (*start, *path), each
            yield from layers_by_path(each, (*start, *path))


def _leaf_of(layer: keras.Layer, name: str) -> Path:
    """Call a variable of a layer as files do; a separable convolution is two modules in torch."""
    if isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
        return ("depthwise", name) if name == "depthwise_kernel" else ("pointwise", name.removeprefix("pointwise_"))
    is_depthwise = isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D)
    return ("depthwise_kernel" if is_depthwise and name == "kernel" else name,)


def _parts_of(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Find what an attribute holds: itself, or the items of lists and dictionaries."""
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _parts_of(item, (*path, str(number)))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _parts_of(item, (*path, str(name)))
    else:
        yield path, value


def _layers_in(value: Any) -> list[keras.Layer]:
    """List the layers in an attribute."""
    return [part for _, part in _parts_of(value, ()) if isinstance(part, keras.Layer)]


def _find_replacements(layer: keras.Layer, other: keras.Layer) -> Iterator[tuple[keras.Layer, str, keras.Layer]]:
    """Find where a layer of `other` has to take the place of one in `layer`, as its own variables differ in shape."""
    if _shapes(_own(layer)) != _shapes(_own(other)):
        raise NotImplementedError(
            f"{type(layer).__name__} has a variable for every entry of the vocabulary, which cannot be resized where "
            "it is: keep it in a layer that is an attribute of its own, not the model's itself and not in a list."
        )
    for name, value in [(name, value) for name, value in vars(layer).items() if name[0] != "_"]:
        for mine, theirs in zip(_layers_in(value), _layers_in(getattr(other, name, None)), strict=True):
            if _shapes(mine.variables) == _shapes(theirs.variables):
                continue
            if mine is value and _shapes(_own(mine)) != _shapes(_own(theirs)):
                yield layer, name, theirs
            else:
                yield from _find_replacements(mine, theirs)


def _replace(layer: keras.Layer, name: str, new: keras.Layer) -> None:
    """Put a layer in an attribute of one that Keras has locked, in another's place."""
    layer._tracker.unlock()
    old = getattr(layer, name)
    new.trainable = old.trainable
    layer._layers.remove(old)
    setattr(layer, name, new)
    layer._tracker.lock()


def _own(layer: keras.Layer) -> list[Any]:
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _shapes(variables: list[Any]) -> list[Any]:
    return [variable.shape for variable in variables]


# Outputs ---------------------------------------------------------------------------------------------------------


def _register_tree(cls: Any) -> None:
    """Let Keras, and where it runs on JAX also that, see the tensors inside an output."""

    def flatten(held: Any) -> tuple[list[Any], tuple[str, ...]]:
        return [held[name] for name in held], tuple(held)

    optree.register_pytree_node(cls, flatten, cls._rebuild, namespace="keras")


if keras.backend.backend() == "jax":
    import maquette.modeling.jax_trees  # noqa: F401 - lets JAX see inside outputs
watch_containers(_register_tree)
