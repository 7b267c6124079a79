"""What changes the shape of a torch model after it was made: its vocabulary, its ties, its attention heads."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn


class EmbeddingMixin:
    """Vocabulary, ties and heads of a `PreTrainedModel`."""

    config: Any
    base_model: Any
    _tied_weights_keys: ClassVar[Mapping[str, str] | Sequence[str] | None] = None

    def get_input_embeddings(self) -> nn.Module:
        """Give the layer that turns token ids into vectors.

        Override it where the model keeps one; unless overridden, it is the only `nn.Embedding` with `config.vocab_size`
        rows.
        """
        base = self.base_model
        if base is not self and hasattr(base, "get_input_embeddings"):
            found: nn.Module = base.get_input_embeddings()
            return found
        size = getattr(self.config, "vocab_size", None)
        fitting = [m for m in self.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == size]  # type: ignore[attr-defined]
        if len(fitting) != 1:
            raise NotImplementedError(
                f"{type(self).__name__} has {len(fitting)} embeddings of config.vocab_size rows, so it must say itself "
                "which are the input's: override get_input_embeddings and set_input_embeddings."
            )
        return fitting[0]

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the layer that turns token ids into vectors."""
        base = self.base_model
        if base is not self and hasattr(base, "set_input_embeddings"):
            base.set_input_embeddings(value)
        else:
            _replace(self, self.get_input_embeddings(), value)

    def get_output_embeddings(self) -> nn.Module | None:
        """Give the layer that scores the vocabulary; None for models without one. Override it to have it tied."""
        return None

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the layer that scores the vocabulary."""
        if (old := self.get_output_embeddings()) is None:
            raise NotImplementedError(
                f"{type(self).__name__} has no output embeddings: override get_output_embeddings."
            )
        _replace(self, old, value)

    def tie_weights(self) -> None:
        """Make input and output embeddings one parameter, where the configuration says so; happens by itself.

        Where `_tied_weights_keys` maps names of parameters to others, these are made one.
        """
        if not self.config.tie_word_embeddings:
            return
        if isinstance(self._tied_weights_keys, Mapping):
            for name, source in self._tied_weights_keys.items():
                _tie(self, name, source)
        elif (output := self.get_output_embeddings()) is not None:
            self._tie_or_clone_weights(output, self.get_input_embeddings())

    def _tie_or_clone_weights(self, output_embeddings: Any, input_embeddings: Any) -> None:
        """Make the weight of the one that of the other; for overrides of `tie_weights`."""
        output_embeddings.weight = input_embeddings.weight

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, *, pad_to_multiple_of: int | None = None
    ) -> nn.Module:
        """Fit the vocabulary to a tokenizer; gives the input embeddings.

        Rows that both sizes have keep their values. New rows are initialised as the model initialises its embeddings.
        The output layer and its bias follow, also where a head holds the bias itself, and so does `config.vocab_size`.

        Args:
            new_num_tokens: rows wanted; unless given, as many as there are.
            pad_to_multiple_of: round up, for the sake of fast matrix products.

        Raises:
            ValueError: a size below one, or a configuration without `vocab_size`.
        """
        old = self.get_input_embeddings()
        size = old.num_embeddings if new_num_tokens is None else new_num_tokens  # type: ignore[union-attr]
        if not isinstance(size, int) or size < 1 or (pad_to_multiple_of is not None and pad_to_multiple_of < 1):
            raise ValueError(
                f"resize_token_embeddings({new_num_tokens}, pad_to_multiple_of={pad_to_multiple_of}): sizes start at 1."
            )
        if pad_to_multiple_of:
            size = -(-size // pad_to_multiple_of) * pad_to_multiple_of
        if size == old.num_embeddings:
            return old
        if not hasattr(self.config, "vocab_size"):
            raise ValueError(
                f"{type(self.config).__name__} has no field vocab_size, so a resized {type(self).__name__} "
                "could not be loaded again: give it one, and build the embeddings from it."
            )
        output: Any = self.get_output_embeddings()
        new = resize_rows(self, old, size)
        renewed: dict[Any, Any] = {old.weight: new.weight}
        self.set_input_embeddings(new)
        if output is not None:
            resized = resize_rows(self, output, size)
            if output.weight is old.weight:
                resized.weight = new.weight
            renewed |= {own: getattr(resized, name) for name, own in output.named_parameters(recurse=False)}
            renewed |= _resize_biases_beside(self, output, size)
            self.set_output_embeddings(resized)
        _renew(self, renewed)
        self.config.vocab_size = size
        self.base_model.config.vocab_size = size
        return new

    def prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        """Take attention heads out for good (Michel et al. 2019); a saved model remembers which.

        Args:
            heads_to_prune: for each layer's number, the numbers of the heads in the unpruned layer.

        Raises:
            NotImplementedError: the base model has no `_prune_heads(self, heads_to_prune)`.
        """
        known = self.config.pruned_heads
        merged = {layer: sorted({*known.get(layer, ()), *heads}) for layer, heads in heads_to_prune.items()}
        self.base_model._prune({layer: list(heads) for layer, heads in heads_to_prune.items()})
        self.config.pruned_heads = {**known, **merged}
        self.base_model.config.pruned_heads = self.config.pruned_heads

    def _prune(self, heads: Mapping[int, list[int]]) -> None:
        prune = getattr(self, "_prune_heads", None)
        if prune is None:
            raise NotImplementedError(
                f"{type(self).__name__} does not know how to prune heads: write _prune_heads(self, heads_to_prune), "
                "which takes {layer: [heads]}."
            )
        prune(heads)


def _tie(model: Any, name: str, source: str) -> None:
    """Give one parameter's place to another: `name` from now on is what `source` is."""
    place, _, leaf = name.rpartition(".")
    shared = model.get_parameter(source)
    setattr(model.get_submodule(place), leaf, shared)


def _replace(root: Any, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place, or places, of another."""
    for parent in list(root.modules()):
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)


def resize_rows(model: Any, layer: nn.Module, rows: int) -> Any:
    """Copy an embedding or output layer with another number of rows; new rows are as the model initialises them."""
    new: Any = copy.deepcopy(layer)
    new.__dict__["_is_initialised"] = True
    shapes = {name: (rows, *p.shape[1:]) for name, p in layer.named_parameters(recurse=False)}
    for name, shape in shapes.items():
        old = getattr(layer, name)
        setattr(new, name, nn.Parameter(torch.empty(shape, dtype=old.dtype, device=old.device), old.requires_grad))
    for attribute in ("num_embeddings", "out_features"):
        if hasattr(new, attribute):
            setattr(new, attribute, rows)
    padding = getattr(new, "padding_idx", None)
    if padding is not None and padding >= rows:
        new.padding_idx = None
    with torch.no_grad():
        new.reset_parameters()
        model._init_weights(new)
        for name in shapes:
            old, fresh = getattr(layer, name), getattr(new, name)
            kept = min(rows, old.shape[0])
            fresh[:kept] = old[:kept]
    return new.train(layer.training)


def _resize_biases_beside(model: Any, output: Any, rows: int) -> dict[nn.Parameter, nn.Parameter]:
    """Give biases of the vocabulary that a head adds by hand, as its output layer has none, another length."""
    found: dict[nn.Parameter, nn.Parameter] = {}
    if getattr(output, "bias", None) is not None:
        return found
    for parent in model.modules():
        if any(child is output for child in parent.children()):
            for name, old in parent.named_parameters(recurse=False):
                if name.endswith("bias") and old.shape == output.weight.shape[:1]:
                    kept = old.detach()[:rows]
                    value = torch.cat([kept, kept.new_zeros(rows - len(kept))])
                    found[old] = nn.Parameter(value, old.requires_grad)
    return found


def _renew(model: Any, renewed: Mapping[Any, Any]) -> None:
    """Put parameters in the place of others wherever a model holds these: what was tied by assignment stays tied."""
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None and (new := renewed.get(old)) is not None:
                setattr(module, name, new)


def find_pruneable_heads_and_indices(
    heads: Iterable[int], n_heads: int, head_size: int, already_pruned_heads: Iterable[int]
) -> tuple[set[int], torch.Tensor]:
    """Translate heads, numbered as in the unpruned layer, into the rows of a projection that stay.

    Returns:
        The heads that are really new, and the indices to keep, of shape (kept · head_size,).
    """
    gone = set(already_pruned_heads)
    new = set(heads) - gone
    standing = [head for head in range(n_heads + len(gone)) if head not in gone]
    rows = [torch.arange(head_size) + place * head_size for place, head in enumerate(standing) if head not in new]
    return new, torch.cat(rows) if rows else torch.empty(0, dtype=torch.long)


def prune_linear_layer(layer: nn.Linear, index: torch.Tensor, dim: int = 0) -> nn.Linear:
    """Keep some outputs (`dim=0`) or inputs (`dim=1`) of a linear layer, as a new layer."""
    weight = layer.weight.detach().index_select(dim, index.to(layer.weight.device))
    new = nn.Linear(
        weight.shape[1], weight.shape[0], bias=layer.bias is not None, dtype=weight.dtype, device=weight.device
    )
    with torch.no_grad():
        new.weight.copy_(weight)
        if layer.bias is not None:
            new.bias.copy_(layer.bias[index.to(layer.bias.device)] if dim == 0 else layer.bias)
    return new
