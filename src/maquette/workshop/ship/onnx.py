"""ONNX: a model as one file of operators, with free sizes, which ONNX Runtime opens without anybody's code."""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from maquette.errors import InputError, MissingPackageError
from maquette.workshop.ship.comparing import Comparison, compare, run_elsewhere
from maquette.workshop.ship.sizes import Sizes, Tensors, find_sizes, flatten
from maquette.workshop.ship.sizes import run as run_model

FILE = "model.onnx"
READER = Path(__file__).with_name("onnx_reader.py")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MISSING = re.compile(r"No ONNX function found for <OpOverload\(op='(?P<op>[^']+)', overload='(?P<overload>[^']*)'\)>")
FAILING = re.compile(r"call_function\[target=torch\.ops\.(?P<op>[\w.]+)\]")


class Call(nn.Module):
    """Calls a model with a dictionary, and gives its tensors by their names: torch frees no sizes of `**options`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensors:
        return flatten(self.model(**inputs))


def require_packages() -> None:
    """Refuse where a package is not installed.

    Raises:
        MissingPackageError: with the command that installs them.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise MissingPackageError(
            f"--to onnx needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'maquette[onnx]'."
        )


def ship_onnx(model: nn.Module, staged: Path, work: Path, *, inputs: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """Export a model, have ONNX Runtime run it in a fresh process, and compare.

    Args:
        model: in evaluation mode, on the CPU.
        staged: where the files go.
        work: a folder for what goes to and fro.
        inputs: to export with; unless given, the model's `dummy_inputs`.

    Raises:
        MissingPackageError: a package is not installed.
        InputError: ONNX has no operator for something in it; the message names it and the module.
    """
    require_packages()
    sizes = find_sizes(model, inputs)
    sizes, outputs = _export_freely(model, sizes, staged / FILE)
    compared = compare_onnx(model, sizes.others, staged / FILE, work)
    return {
        "versions": versions(),
        "opset": opset_of(staged / FILE),
        "inputs": describe(sizes.example, sizes.free),
        "outputs": outputs,
        "fixed": sizes.fixed,
        "compared": compared,
    }


def versions() -> dict[str, str]:
    """Give the versions of what took part."""
    return {name: version(name) for name in ("torch", *PACKAGES)}


def opset_of(file: Path) -> int:
    """Say which version of ONNX's operators a file is written in."""
    import onnx

    return next(each.version for each in onnx.load(file, load_external_data=False).opset_import if not each.domain)


def describe(inputs: Mapping[str, Tensor], free: Mapping[str, Mapping[int, str]]) -> dict[str, list[int | str]]:
    """Give the shapes of inputs, with the names of free sizes."""
    return {
        name: [free.get(name, {}).get(axis, size) for axis, size in enumerate(x.shape)] for name, x in inputs.items()
    }


def compare_onnx(model: nn.Module, calls: Sequence[Tensors], file: Path, work: Path) -> list[Comparison]:
    """Run calls here and in a fresh process with ONNX Runtime."""
    found = run_elsewhere(READER, work, calls, model=str(file.resolve()))
    return [compare(call, run_model(model, call), other) for call, other in zip(calls, found, strict=True)]


# Exporting ---------------------------------------------------------------------------------------------------------


def _export_freely(model: nn.Module, sizes: Sizes, file: Path) -> tuple[Sizes, list[str]]:
    """Export with as many free sizes as torch can tell; sizes of images, then lengths, are fixed where it cannot."""
    names = {size for axes in sizes.free.values() for size in axes.values()}
    orders = [
        (),
        ("height", "width"),
        ("height", "width", "length", "decoder_length", "encoder_length", "sound_length"),
    ]
    tries = [attempt for attempt in orders if set(attempt) & names or not attempt]
    for attempt in tries:
        less = sizes.without(*(name for name in attempt if name in names))
        try:
            program = export(Call(model), less, model)
        except InputError:
            if attempt == tries[-1]:
                raise
            continue
        outputs = list(run_model(model, less.example))
        write(program, file, model, inputs=list(less.example), outputs=outputs, free=less)
        return less, outputs
    raise AssertionError("there is a try at least")


def export(call: nn.Module, sizes: Sizes, model: nn.Module) -> Any:
    """Have torch follow a module that takes one dictionary.

    Raises:
        InputError: it cannot; with the line of code.
    """
    free = {name: dict.fromkeys(sizes.free.get(name, {}), Dim.DYNAMIC) for name in sizes.example}
    try:
        with _quietly():
            return torch.export.export(call, (sizes.example,), strict=False, dynamic_shapes=(free,))
    except Exception as error:
        raise InputError(_say_untraceable(model, error)) from error


def write(program: Any, file: Path, model: nn.Module, *, inputs: list[str], outputs: list[str], free: Sizes) -> None:
    """Translate an exported program to ONNX, and write it; weights beyond 2 GB go to a file beside it.

    Raises:
        InputError: an operator has no translation.
    """
    try:
        with _quietly():
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                verbose=False,
                input_names=inputs,
                output_names=outputs,
                custom_translation_table=_translations(),
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(_say_missing(error, program, model)) from error
    assert exported is not None
    _name_free_sizes(exported.model.graph, free.free)
    exported.save(str(file))


def _name_free_sizes(graph: Any, free: Mapping[str, Mapping[int, str]]) -> None:
    """Give symbols the names of the sizes they stand for, in place of torch's (s17)."""
    import onnx_ir

    names: dict[str, str] = {}
    for value in graph.inputs:
        for axis, size in free.get(value.name, {}).items():
            symbol = value.shape[axis]
            if isinstance(symbol, onnx_ir.SymbolicDim) and symbol.value:
                names.setdefault(str(symbol.value), size)
    for value in [*graph.inputs, *graph.outputs]:
        for axis, symbol in enumerate(value.shape or ()):
            if isinstance(symbol, onnx_ir.SymbolicDim) and str(symbol.value) in names:
                value.shape[axis] = onnx_ir.SymbolicDim(names[str(symbol.value)])


def _translations() -> dict[Any, Any]:
    """Translate what torch's exporter has no words for, and ONNX has."""
    import onnxscript

    op: Any = onnxscript.opset20

    def sort_stable(x: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        count = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
        return op.TopK(x, count, axis=dim, largest=descending, sorted=True)  # of equals, the first comes first

    def remainder(x: Any, divisor: Any) -> Any:  # by a size that is free
        divisor = op.CastLike(divisor, x)
        if x.dtype.is_floating_point():
            return op.Sub(x, op.Mul(op.Floor(op.Div(x, divisor)), divisor))
        return op.Mod(x, divisor)

    return {torch.ops.aten.sort.stable: sort_stable, torch.ops.aten.remainder.Scalar: remainder}


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the exporter says of its own steps to itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


# What went wrong ----------------------------------------------------------------------------------------------------


def _say_missing(error: BaseException, program: Any, model: nn.Module) -> str:
    """Name the operator, and the module that it is in."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    text = "\n".join(str(each) for each in reversed(causes))
    if found := MISSING.search(text):
        operator = ".".join(filter(None, (found["op"], found["overload"])))
    elif found := FAILING.search(text):
        operator = found["op"]
    else:
        return f"{type(model).__name__} cannot be written as ONNX: {text.strip().splitlines()[0]}"
    node = next((n for n in program.graph.nodes if str(n.target) == operator), None)
    return (
        f"ONNX has no operator for torch's {operator}, which is used in {_place(node, model)}. Write that with other "
        "operations."
    )


def _place(node: Any, model: nn.Module) -> str:
    """Say in which module a node of a program is, and in which line."""
    stack = list((node.meta.get("nn_module_stack") or {}).values()) if node is not None else []
    path, kind = stack[-1] if stack else ("", type(model))
    name = path.removeprefix("model").removeprefix(".")
    kind_name = kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__
    lines = re.findall(r'File "([^"]+)", line (\d+)', (node.meta.get("stack_trace") or "") if node is not None else "")
    line = f", {Path(lines[-1][0]).name}, line {lines[-1][1]}" if lines else ""
    return f"{f'{name} ' if name else ''}({kind_name}{line})"


def _say_untraceable(model: nn.Module, error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    frames, ours = [], str(Path(__file__).parent)
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    own = [(file, line) for file, line in frames if "/torch/" not in file and not file.startswith(("<", ours))]
    where = f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own else ""
    return (
        f"torch.export cannot follow {type(model).__name__}{where}: {first} Where the value of a tensor decides what "
        "is computed, or .item() and .tolist() turn it into a number of Python, use torch.where and tensors."
    )
