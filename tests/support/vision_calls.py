"""Calls of models of images, the same for maquette's and for Transformers', and how what they give is named."""

import torch


def flatten(value, name=""):
    """Name every tensor of an output: `logits`, `text_model_output.hidden_states.0`."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if hasattr(value, "items") else enumerate(value) if isinstance(value, tuple) else ()
    start = f"{name}." if name else ""
    return {key: tensor for part, item in items for key, tensor in flatten(item, f"{start}{part}").items()}


def hide(found, mask):
    """Set to zero what lies at padding, `(rows, length, …)`."""
    if mask is None:
        return found
    kept = {}
    for key, value in found.items():
        is_states = value.shape[:2] == mask.shape and "attentions" not in key and "logits" not in key
        kept[key] = value * mask[..., None] if is_states and value.ndim == 3 else value
    return kept


def run(model, about, inputs):
    """Give outputs, and leave gradients behind: of the loss, or where there is none, of ramps over all outputs."""
    model.zero_grad()
    given = {name: inputs[place] for name, place in about["inputs"].items()}
    found = hide(flatten(model(**given, **about["options"])), given.get("attention_mask"))
    total = found.get("loss")
    if total is None:
        real = [value for _, value in sorted(found.items()) if value.requires_grad]
        total = sum((x * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape)).sum() for x in real)
    total.backward()
    return found
