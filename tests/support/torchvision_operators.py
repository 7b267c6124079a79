"""timm imports torchvision, whose wheels are for CUDA: beside a CPU torch they lack the schemas of two operators."""

import torch

_library = None


def declare_operators() -> None:
    """Declare the two schemas once, so that torchvision imports; nothing here calls them."""
    global _library
    if _library is None:
        _library = torch.library.Library("torchvision", "DEF")
        _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
