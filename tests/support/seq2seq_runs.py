"""What is computed with models that have an encoder and a decoder, by whichever library they are of."""

import torch


def run(model, inputs, kind, mask_name):
    """Give outputs, the loss, and the gradient of every parameter."""
    model.zero_grad()
    mask = inputs[f"mask.{mask_name}"]
    output, loss = RUNS[next(head for head in RUNS if head in kind)](model, inputs, mask, inputs["ids"])
    loss.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    outputs = {n: v for n, v in output.items() if isinstance(v, torch.Tensor) and n != "loss"}
    return {**outputs, "loss": loss, **gradients}


def run_base(model, inputs, mask, ids):
    output = model(
        ids, attention_mask=mask, decoder_input_ids=inputs["decoder_ids"], decoder_attention_mask=inputs["decoder_mask"]
    )
    real = inputs["decoder_mask"][..., None]
    return output, (output.last_hidden_state * inputs["labels.base"] * real).mean()


def run_encoder(model, inputs, mask, ids):
    output = model(ids, attention_mask=mask)
    return output, (output.last_hidden_state * inputs["labels.source"] * mask[..., None]).mean()


def run_labels(model, inputs, mask, ids):
    """The decoder reads the labels, moved right."""
    output = model(ids, attention_mask=mask, labels=inputs["labels.decoder"])
    return output, output.loss


def run_causal(model, inputs, mask, ids):
    labels = inputs["labels.source.ids"].masked_fill(mask == 0, -100)
    output = model(
        ids, attention_mask=mask, labels=labels, encoder_hidden_states=inputs["labels.base"], use_cache=False
    )
    return output, output.loss


def run_tokens(model, inputs, mask, ids):
    output = model(ids, attention_mask=mask, labels=inputs["labels.tokens"].masked_fill(mask == 0, -100))
    return output, output.loss


def run_rows(model, inputs, mask, ids):
    output = model(inputs["ids.ended"], attention_mask=mask, labels=inputs["labels.rows"])
    return output, output.loss


def run_spans(model, inputs, mask, ids):
    start, end = inputs["labels.spans"]
    output = model(ids, attention_mask=mask, start_positions=start, end_positions=end)
    return output, output.loss


RUNS = {
    "CausalLM": run_causal,
    "ConditionalGeneration": run_labels,
    "TokenClassification": run_tokens,
    "SequenceClassification": run_rows,
    "QuestionAnswering": run_spans,
    "EncoderModel": run_encoder,
    "Model": run_base,
}
