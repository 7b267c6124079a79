"""Is the backend right? torch's own operations in each type, against float64, at the shapes that models use.

    python benchmarks/backend_numerics.py [--device cpu] [--threads 1] [--small]

Inputs are rounded to the type first, so that what differs from float64 is what the operation itself rounds: for each
sum a few steps of the type, at the size of the largest result. Rows with more than `ALLOWED` steps are marked `WRONG`.
The forward pass comes first, then the largest of the gradients, then how long the forward pass takes (milliseconds).
With `--small`, shapes are those of the tests' tiny models only, which is where backends choose unusual kernels.

With torch's own switches in the environment the same machine shows others: `ATEN_CPU_CAPABILITY=default` or `avx2`,
and `ONEDNN_MAX_CPU_ISA=SSE41`, `AVX2`, `AVX512_CORE`, `AVX512_CORE_BF16`, `AVX512_CORE_AMX`.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everyone writes it

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Steps of the type: sums of half precision are added up in float32 and rounded once, or in a few parts.
ALLOWED = {torch.float32: 128, torch.bfloat16: 8, torch.float16: 8}
Operation = Callable[..., Tensor]
Row = tuple[str, Operation, list[tuple[int, ...]]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", default="cpu")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--small", action="store_true")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    capability = torch.backends.cpu.get_cpu_capability() if chosen.device == "cpu" else chosen.device
    print(f"torch {torch.__version__}, {capability}; steps of the type: forward, gradients; milliseconds")
    print(f"{'operation':52}" + "".join(f"{name:>29}" for name in TYPES))
    wrong = 0
    for name, operation, shapes in [*small_rows(), *([] if chosen.small else large_rows())]:
        cells = [measure(operation, shapes, dtype, chosen.device) for dtype in TYPES.values()]
        print(f"{name:52}" + "".join(f"{cell:>29}" for cell in cells), flush=True)
        wrong += sum("WRONG" in cell for cell in cells)
    print(f"{wrong} wrong")


def small_rows() -> Iterator[Row]:
    """Give operations at the sizes of tiny models: their names, what they are, and the shapes of what they take."""
    for channels, groups, kernel in (
        (32, 4, 16),
        (32, 4, 3),
        (32, 32, 16),
        (64, 4, 16),
        (32, 1, 16),
        (8, 1, 3),
        (24, 3, 5),
    ):
        conv = functools.partial(F.conv1d, padding=kernel // 2, groups=groups)
        shapes = [(2, channels, 29), (channels, channels // groups, kernel), (channels,)]
        yield f"conv1d {channels} channels, {groups} groups, kernel {kernel}", conv, shapes
    for channels, groups, kernel, stride in ((8, 1, 3, 1), (16, 4, 3, 1), (16, 16, 3, 2), (3, 1, 7, 2), (12, 1, 1, 1)):
        conv = functools.partial(F.conv2d, padding=kernel // 2, stride=stride, groups=groups)
        shapes = [(2, channels, 20, 20), (2 * channels, channels // groups, kernel, kernel), (2 * channels,)]
        yield f"conv2d {channels} channels, {groups} groups, kernel {kernel}, stride {stride}", conv, shapes
    yield "conv_transpose1d 16 channels", F.conv_transpose1d, [(2, 16, 20), (16, 8, 4), (8,)]
    yield "conv1d 12 channels, dilated", functools.partial(F.conv1d, dilation=3), [(2, 12, 40), (16, 12, 5), (16,)]
    yield "linear 5 x 32 to 7", F.linear, [(5, 32), (7, 32), (7,)]
    yield "linear 29 x 37 to 13", F.linear, [(29, 37), (13, 37), (13,)]
    yield "matmul 3 x 4 heads of 10 x 8", lambda q, k: q @ k.transpose(-1, -2), [(3, 4, 10, 8), (3, 4, 10, 8)]
    yield "attention 4 heads of 10 x 8", F.scaled_dot_product_attention, [(3, 4, 10, 8)] * 3
    yield "layer_norm 32", lambda x, w, b: F.layer_norm(x, (32,), w, b), [(5, 9, 32), (32,), (32,)]
    yield "group_norm 8 of 8", lambda x, w, b: F.group_norm(x, 8, w, b), [(2, 8, 60), (8,), (8,)]
    yield (
        "batch_norm 12",
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        [(6, 12, 9, 9), (12,), (12,)],
    )
    for name, function in (
        ("softmax", lambda x: F.softmax(x, -1)),
        ("gelu", F.gelu),
        ("silu", F.silu),
        ("tanh", torch.tanh),
    ):
        yield f"{name} 5 x 37", function, [(5, 37)]
    yield "avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 1), [(2, 12, 9, 9)]
    yield "bicubic", lambda x: F.interpolate(x, size=(9, 7), mode="bicubic"), [(1, 8, 5, 5)]


def large_rows() -> Iterator[Row]:
    """Give operations at the sizes of real models."""
    positions = functools.partial(F.conv1d, padding=64, groups=16)
    yield "conv1d positions of Wav2Vec2 base", positions, [(1, 768, 99), (768, 48, 128), (768,)]
    yield "conv1d positions of Wav2Vec2 large", positions, [(1, 1024, 49), (1024, 64, 128), (1024,)]
    yield (
        "conv1d 512 channels, kernel 3, stride 2",
        functools.partial(F.conv1d, stride=2),
        [(1, 512, 799), (512, 512, 3)],
    )
    yield "conv2d patches of ViT", functools.partial(F.conv2d, stride=16), [(2, 3, 224, 224), (768, 3, 16, 16), (768,)]
    yield "conv2d 64 channels, kernel 3", functools.partial(F.conv2d, padding=1), [(1, 64, 56, 56), (64, 64, 3, 3)]
    yield (
        "conv2d depthwise, kernel 7",
        functools.partial(F.conv2d, padding=3, groups=96),
        [(1, 96, 56, 56), (96, 1, 7, 7)],
    )
    yield "linear 256 x 768 to 3072", F.linear, [(256, 768), (3072, 768), (3072,)]
    yield "attention 12 heads of 197 x 64", F.scaled_dot_product_attention, [(1, 12, 197, 64)] * 3


def measure(operation: Operation, shapes: list[tuple[int, ...]], dtype: torch.dtype, device: str) -> str:
    """Compare one operation in one type with itself in float64."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    try:
        found = run(operation, [x.to(device) for x in inputs])
        milliseconds = time_call(operation, [x.to(device) for x in inputs])
    except (RuntimeError, NotImplementedError) as error:
        return f"not there ({type(error).__name__})"
    expected = run(operation, [x.double() for x in inputs])
    forward, *gradients = [apart(one, other, dtype) for one, other in zip(found, expected, strict=True)]
    largest = max(gradients)
    mark = " WRONG" if not max(forward, largest) <= ALLOWED[dtype] else ""
    return f"{forward:.1f} {largest:.1f} {milliseconds:.2f}{mark}"


def run(operation: Operation, inputs: list[Tensor]) -> list[Tensor]:
    """Give the result, and the gradient of a weighted sum of it at each input."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = operation(*leaves)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).bfloat16().half()
    gradients = torch.autograd.grad(output, leaves, weights.to(output))
    return [output.detach(), *gradients]


def apart(found: Tensor, expected: Tensor, dtype: torch.dtype) -> float:
    """Give the largest difference, in steps of the type at the largest value."""
    gap = (found.cpu().double() - expected).abs().max()
    return (gap / expected.abs().max().clamp(min=1e-30) / torch.finfo(dtype).eps).item()


def time_call(operation: Operation, inputs: list[Tensor]) -> float:
    """Give the milliseconds of the best of three calls."""
    wait = torch.cuda.synchronize if inputs[0].is_cuda else lambda: None
    times = []
    with torch.inference_mode():
        for _ in range(3):
            start = time.perf_counter()
            operation(*inputs)
            wait()
            times.append(1000 * (time.perf_counter() - start))
    return min(times)


if __name__ == "__main__":
    main()
