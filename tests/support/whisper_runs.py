"""What is computed with Whisper's models, by whichever library they are of."""

import torch


def run(model, inputs, kind):
    """Give outputs, the loss, and the gradient of every parameter."""
    model.zero_grad()
    output, loss = RUNS[next(head for head in RUNS if head in kind)](model, inputs)
    loss.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    outputs = {n: v for n, v in output.items() if isinstance(v, torch.Tensor) and n != "loss"}
    return {**outputs, "loss": loss, **gradients}


def run_base(model, inputs):
    given = {"decoder_input_ids": inputs["ids"], "decoder_attention_mask": inputs["mask"]}
    output = model(inputs["features"], **given)
    return output, (output.last_hidden_state * inputs["labels.base"] * inputs["mask"][..., None]).mean()


def run_labels(model, inputs):
    """The decoder reads the labels, moved right."""
    output = model(inputs["features"], labels=inputs["labels.ids"])
    return output, output.loss


def run_causal(model, inputs):
    labels = inputs["labels.ids"].masked_fill(inputs["mask"] == 0, -100)
    given = {"attention_mask": inputs["mask"], "encoder_outputs": inputs["states"], "use_cache": False}
    output = model(inputs["ids"], labels=labels, **given)
    return output, output.loss


def run_rows(model, inputs):
    output = model(inputs["features"], labels=inputs["labels.rows"])
    return output, output.loss


RUNS = {"CausalLM": run_causal, "Conditional": run_labels, "Classification": run_rows, "Model": run_base}
