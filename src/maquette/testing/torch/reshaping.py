"""Checks of what changes a model's shape: another vocabulary, fewer attention heads."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from maquette.testing.comparison import compare, in_words
from maquette.testing.report import Fault, NotApplicableError, Unchecked
from maquette.testing.torch.subject import Subject, Tensors, run, snapshot, state_of

GROWTH = 3
LAYERS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")
HEADS = ("num_attention_heads", "n_heads", "num_heads", "n_head")


# Vocabulary ------------------------------------------------------------------------------------------------------


def check_resizing(subject: Subject) -> Iterator[Fault | Unchecked]:
    """A larger vocabulary keeps every row, works, and reloads; back at the old size the model is the old one."""
    model = subject.build()
    size = _vocabulary(model, subject.name)
    before = snapshot(state_of(model))
    model.resize_token_embeddings(size + GROWTH)
    yield from _check_rows(before, state_of(model), size)
    yield from _check_sizes(model, size + GROWTH)
    inputs = _with_new_token(subject, size)
    outputs = run(model, inputs)
    for name, tensor in subject.outputs.items():
        if name.endswith("logits") and tensor.shape[-1:] == (size,) and outputs[name].shape[-1] != size + GROWTH:
            yield Fault(
                f"`{name}` still scores {outputs[name].shape[-1]} entries of a vocabulary of {size + GROWTH}",
                "override get_output_embeddings and set_output_embeddings",
            )
    yield from subject.reload_faults("resizing", model, inputs, "resizing the vocabulary, saving and loading")
    model.resize_token_embeddings(size)
    for name, difference in compare(before, state_of(model), 0.0).items():
        yield Fault(f"`{name}` is {difference} after resizing the vocabulary there and back", KEEP)


def _vocabulary(model: Any, name: str) -> int:
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError as error:
        if getattr(model.config, "vocab_size", None) is None:
            raise NotApplicableError(f"{name} has no vocabulary") from error
        raise NotApplicableError(str(error)) from error
    if not isinstance(embeddings, nn.Embedding):
        raise NotApplicableError(
            f"the input embeddings of {name} are a {type(embeddings).__name__}, not a vocabulary's"
        )
    return embeddings.num_embeddings


KEEP = "leave resizing to resize_token_embeddings, and override get_input_embeddings and get_output_embeddings"


def _check_rows(before: Tensors, after: Tensors, size: int) -> Iterator[Fault]:
    for name, old in before.items():
        new = after.get(name)
        if new is None:
            yield Fault(f"`{name}` is gone after resizing the vocabulary", KEEP)
        elif compare({name: old}, {name: new[: old.shape[0]] if new.ndim else new}, 0.0):
            yield Fault(f"`{name}` does not keep its first {size} rows when the vocabulary grows", KEEP)


def _check_sizes(model: Any, size: int) -> Iterator[Fault]:
    embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
    if embeddings.weight.shape[0] != size or embeddings.num_embeddings != size:
        yield Fault(f"the input embeddings have {embeddings.weight.shape[0]} rows, not {size}", KEEP)
    if output is not None and output.weight.shape[0] != size:
        yield Fault(f"the output embeddings have {output.weight.shape[0]} rows, not {size}", KEEP)
    if output is not None and model.config.tie_word_embeddings and output.weight is not embeddings.weight:
        yield Fault("input and output embeddings are no longer tied after resizing the vocabulary", KEEP)
    if getattr(model.config, "vocab_size", size) != size:
        yield Fault(f"config.vocab_size is {model.config.vocab_size} after resizing to {size}", KEEP)


def _with_new_token(subject: Subject, size: int) -> Tensors:
    """Put the last of the new tokens into the inputs, where those are token ids."""
    inputs = snapshot(subject.inputs)
    tokens = inputs.get(subject.model_class.main_input_name)
    if tokens is not None and not tokens.is_floating_point():
        tokens.view(-1)[0] = size + GROWTH - 1
    return inputs


# Heads -----------------------------------------------------------------------------------------------------------


def check_pruning(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Without some heads the model gives what it gave with their contribution set to zero, and reloads."""
    model, heads = subject.build(), _heads(subject)
    before = snapshot(state_of(model))
    model.prune_heads({layer: list(numbers) for layer, numbers in heads.items()})
    recorded = {layer: sorted(numbers) for layer, numbers in model.config.pruned_heads.items()}
    if recorded != heads:
        yield Fault(f"config.pruned_heads is {recorded} after pruning {heads}", "leave prune_heads to the base class")
    after = state_of(model)
    shrunk = {name: old for name, old in before.items() if name in after and after[name].shape != old.shape}
    if not shrunk:
        yield Fault(f"prune_heads({heads}) changes the shape of no parameter", PRUNE)
        return
    kept = {name: kept_slices(old, after[name]) for name, old in shrunk.items()}
    for name, found in kept.items():
        if found is None:
            yield Fault(f"`{name}`, pruned, does not consist of slices of what it was", PRUNE)
    for name in compare(
        {n: t for n, t in before.items() if n not in shrunk}, {n: t for n, t in after.items() if n not in shrunk}, 0.0
    ):
        yield Fault(f"`{name}` changes when heads are pruned", PRUNE)
    yield from _check_pruned_outputs(subject, model, kept)
    yield from subject.reload_faults("pruning", model, subject.inputs, "pruning heads, saving and loading")


PRUNE = (
    "use find_pruneable_heads_and_indices and prune_linear_layer: rows of query, key, value; columns (dim=1) of output"
)


def _heads(subject: Subject) -> dict[int, list[int]]:
    if subject.heads_to_prune is not None:
        return {layer: sorted(heads) for layer, heads in subject.heads_to_prune.items()}
    if not hasattr(subject.model.base_model, "_prune_heads"):
        raise NotApplicableError(f"{subject.name} has no _prune_heads")
    layers, heads = (_first(subject.config, names) for names in (LAYERS, HEADS))
    if heads is None or layers is None:
        raise NotApplicableError(
            "the configuration does not say how many layers and heads there are; pass heads_to_prune=…"
        )
    if heads < 2:
        raise NotApplicableError("there is one head in a layer, and pruning it leaves none; configure two or more")
    return {0: [0], layers - 1: [heads - 1]} if layers > 1 else {0: [0]}


def _first(config: Any, names: Iterable[str]) -> int | None:
    return next((value for name in names if isinstance(value := getattr(config, name, None), int)), None)


def kept_slices(old: torch.Tensor, new: torch.Tensor) -> tuple[int, list[int]] | None:
    """Find which slices of a tensor are left of it: the dimension and the indices; None where others are there."""
    differing = [dim for dim in range(old.ndim) if old.ndim == new.ndim and old.shape[dim] != new.shape[dim]]
    if len(differing) != 1:
        return None
    (dim,) = differing
    kept: list[int] = []
    start = 0
    for piece in new.unbind(dim):
        rest = range(start, old.shape[dim])
        found = next((index for index in rest if torch.equal(old.select(dim, index), piece)), None)
        if found is None:
            return None
        kept.append(found)
        start = found + 1
    return dim, kept


def _check_pruned_outputs(
    subject: Subject, pruned: nn.Module, kept: Mapping[str, tuple[int, list[int]] | None]
) -> Iterator[Fault | Unchecked]:
    columns = {name: found[1] for name, found in kept.items() if found is not None and found[0] == 1}
    if not columns:
        yield Unchecked("outputs", "no parameter lost columns, so the heads' contribution cannot be told apart")
        return
    masked = subject.build()
    for name, indices in columns.items():
        weight = masked.get_parameter(name)
        gone = [index for index in range(weight.shape[1]) if index not in indices]
        with torch.no_grad():
            weight[:, gone] = 0
    expected, found = run(masked, subject.inputs), run(pruned, subject.inputs)
    wrong = {
        name: difference
        for name, difference in compare(expected, found, subject.tolerance).items()
        if name not in found or found[name].shape == expected[name].shape
    }
    if wrong:
        yield Fault(
            f"pruned, the model does not give what it gives with those heads' contribution at zero: {in_words(wrong)}",
            PRUNE,
        )
