"""Checks that are the same for models of every framework: making, running, saving and loading, and the loss."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from maquette.errors import did_you_mean
from maquette.testing.comparison import compare
from maquette.testing.labels import label_names
from maquette.testing.report import Fault, NotApplicableError, describe
from maquette.testing.subject import Subject

RETURN = 'return a ModelOutput or a dictionary with "loss" and "logits"'


def check_construction(subject: Subject) -> Iterator[Fault]:
    """The constructor makes a model of the configuration, and the model keeps the configuration."""
    try:
        model = subject.model
    except Exception as error:
        yield Fault(f"{subject.making} fails, {describe(error)}", "fix it, or pass a configuration that it accepts")
        return
    if not isinstance(getattr(model, "config", None), type(subject.config)):
        yield Fault("the model has no `config`", "call super().__init__(config), and leave self.config to it")


def check_forward(subject: Subject) -> Iterator[Fault]:
    """The model takes the inputs and gives finite numbers."""
    try:
        inputs = subject.inputs
    except NotImplementedError as error:
        yield Fault(str(error).rstrip("."), "the checks need inputs")
        return
    try:
        outputs = subject.outputs
    except Exception as error:
        yield Fault(f"{subject.method} fails, {describe(error)}", _suggest_inputs(subject, inputs))
        return
    if not outputs:
        fix = f"return a ModelOutput, a dictionary or a tuple of {subject.values}, or one of these"
        yield Fault(f"{subject.method} returns no {subject.values}", fix)
    for name, value in outputs.items():
        if not subject.finite(value):
            yield Fault(
                f"the output `{name}` has values that are not finite",
                "initialise every weight, and mask with the least number of the type rather than infinity",
            )


def _suggest_inputs(subject: Subject, inputs: Mapping[str, Any]) -> str:
    known = [name for name in subject.parameters if name != "self"]
    unknown = [name for name in inputs if name not in known]
    hint = did_you_mean(unknown[0], known) if unknown else ""
    given, wanted = ", ".join(inputs), ", ".join(known)
    return f"fix it, or pass inputs that fit; they were {given}, and {subject.method} takes {wanted}.{hint}"


def batch_size(inputs: Mapping[str, Any]) -> int:
    """Give the number of examples in a batch.

    Raises:
        NotApplicableError: it is not clear, or there is only one.
    """
    sizes = {value.shape[0] if value.ndim else 0 for value in inputs.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise NotApplicableError("the inputs do not share their first dimension")
    (size,) = sizes
    if size < 2:
        raise NotApplicableError("the inputs hold one example; give at least two")
    return int(size)


def check_seed(subject: Subject) -> Iterator[Fault]:
    """Constructing twice under one seed gives the same weights."""
    first, second = (subject.state(subject.build()) for _ in range(2))
    for name, difference in compare(first, second, 0.0).items():
        yield Fault(
            f"`{name}` is {difference} when the model is constructed again under the same seed",
            f"draw random numbers {subject.drawing}, and nothing from the clock or the system",
        )


def check_from_config(subject: Subject) -> Iterator[Fault]:
    """`from_config` gives what the constructor gives under one seed."""
    model, made, fix = subject.build(), subject.rebuild(), "leave from_config to the base class"
    for name, difference in compare(subject.state(model), subject.state(made), 0.0).items():
        yield Fault(f"from from_config, `{name}` is {difference}", fix)
    if made.config != model.config:
        changed = ", ".join(f"`{name}`" for name in made.config.diff(model.config))
        yield Fault(f"from_config gives a model with another configuration ({changed})", fix)


def check_reload(subject: Subject) -> Iterator[Fault]:
    """What is loaded is what was saved: weights and configuration to the last bit, and the outputs."""
    expected = subject.plain_save.expected
    try:
        found = subject.observation.of(subject.reloaded, subject.inputs)
    except Exception as error:
        yield Fault(f"there is no model after saving and loading: {describe(error)}", subject.fit)
        return
    yield from expected.state_faults(found, "saving and loading", ignoring=subject.unsaved(subject.model))
    yield from expected.output_faults(found, "saving and loading")
    for name, (theirs, mine) in subject.reloaded.config.diff(subject.model.config).items():
        if name not in ("architectures", "dtype", "auto_map"):  # what saving adds
            yield Fault(
                f"the configuration's `{name}` is {mine!r}, but {theirs!r} after saving and loading",
                "do not change the configuration while constructing, or so that doing it again changes nothing",
            )


def loss_faults(subject: Subject, run: Callable[[], Any], judge: Callable[[Any], Iterator[Fault]]) -> Iterator[Fault]:
    """Say what is wrong with a run with labels: it gives by key a loss, of which `judge` says the rest, and logits."""
    names, method = label_names(subject.parameters, subject.given_labels), subject.method
    if not names:
        raise NotApplicableError(f"{method} of {subject.name} takes no labels")
    if not subject.labels:
        fix = f"{RETURN}, or pass labels=…"
        yield Fault(f"{method} takes {' and '.join(names)}, but returns no logits by key", fix)
        return
    output = run()
    if not isinstance(output, Mapping):
        yield Fault(f"with labels, {method} returns a {type(output).__name__}", RETURN)
        return
    if output.get("loss") is None:
        yield Fault(f"with labels, the output has no key 'loss', only {', '.join(output)}", RETURN)
    else:
        yield from judge(output["loss"])
    if not any(name.endswith("logits") for name in output):
        yield Fault(f"with labels, the output has no key 'logits', only {', '.join(output)}", RETURN)
