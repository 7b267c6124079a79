"""Calls of encoders of texts, the same for maquette's models and for Transformers'."""

import torch
from torch.nn.functional import pad


def give(inputs, about, mask_name):
    """Give the arguments of a call of a case, with labels where its head has some."""
    head, mask, fields = about["head"], inputs[f"mask.{mask_name}"], about["fields"]
    ids = inputs["ids"].masked_fill(mask == 0, fields["pad_token_id"])
    given = {"input_ids": ids, "attention_mask": mask}
    if fields.get("type_vocab_size", 1) > 1:
        given["token_type_ids"] = inputs["types"]
    if fields.get("add_cross_attention"):
        given |= {"encoder_hidden_states": inputs["others"], "encoder_attention_mask": inputs["mask.others"]}
    if fields.get("is_decoder"):
        offset = fields["pad_token_id"] + 1 if "Roberta" in about["class"] else 0
        given |= {"position_ids": (mask.cumsum(1) - 1).clamp(min=0) + offset, "use_cache": False}
    if head == "choice":
        shape = (2, len(ids) // 2, ids.shape[1])
        given = {name: value.view(shape) for name, value in given.items()}
    return given | _label(inputs, head, mask)


def _label(inputs, head, mask):
    if head in ("masked", "tokens"):
        return {"labels": inputs[f"labels.{head}"].masked_fill(mask == 0, -100)}
    if head == "sparse":
        return {"labels": inputs["labels.masked"].masked_fill((mask == 0) | (inputs["types"] > 0), -100)}
    if head == "causal":  # a label counts where its token and the one before it are real
        counts = mask * pad(mask[:, :-1], (1, 0))
        return {"labels": inputs["labels.masked"].masked_fill(counts == 0, -100)}
    if head == "pretraining":
        return {**_label(inputs, "masked", mask), "next_sentence_label": inputs["labels.next"]}
    if head == "spans":  # the peer's loss counts padding
        names = ("start_positions", "end_positions") if mask.all() else ()
        return dict(zip(names, inputs["labels.spans"], strict=False))
    return {} if head == "base" else {"labels": inputs[f"labels.{head}"]}


def run(model, given, inputs, head):
    """Give outputs, the loss, and the gradient of every parameter; without a loss, that of a weighted sum."""
    model.zero_grad()
    mask, output = given["attention_mask"], model(**given)
    outputs = {n: value for n, value in output.items() if isinstance(value, torch.Tensor) and n != "loss"}
    if not mask[..., 0].all():
        outputs.pop("pooler_output", None)  # that is read where the peer reads padding
    loss = output.get("loss")
    if loss is None:
        weights = inputs["labels.base"] * mask[..., None]
        chosen = {3: weights, 2: weights[..., 0] if head == "spans" else weights[:, 0]}
        loss = sum((value * chosen[value.ndim]).mean() for _, value in sorted(outputs.items()))
    loss.backward()
    gradients = {f"grad.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {**outputs, "loss": loss, **gradients}
