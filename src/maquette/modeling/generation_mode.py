"""How a model is while it generates."""

from typing import Any

import torch

from maquette.modeling.few_row_products import FewRowProducts


class GenerationMode:
    """Puts a model into evaluation mode, without gradients, with quick products of few rows, and back as it was.

    Used in a `with`, any number of times, also within another one of the same model.
    """

    def __init__(self, model: Any, *, low_memory: bool | None = None) -> None:
        self.model, self.grad = model, torch.no_grad()
        self.products = FewRowProducts(model, copies=not low_memory)

    def __enter__(self) -> None:
        self.training = [module for module in self.model.modules() if module.training]
        if self.training:
            self.model.eval()
        self.grad.__enter__()
        self.products.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.products.__exit__(*error)
        self.grad.__exit__(*error)
        for module in self.training:
            module.training = True
