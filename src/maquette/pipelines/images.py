"""Images: their classes, those that the caller thinks up too, and their features."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from maquette.errors import InputError
from maquette.images.fetching import load_image
from maquette.pipelines.base import Pipeline, Row
from maquette.pipelines.scores import apply_function, check_count, check_function, rank, usual_function
from maquette.pipelines.text_classification import ZeroShotOptions


class ImagePipeline(Pipeline):
    """A pipeline whose inputs are images: paths, addresses, bytes, images of Pillow's, arrays and tensors."""

    needs: ClassVar[tuple[str, ...]] = ("image_processor",)

    def is_single(self, inputs: Any) -> bool:
        """Tell an image from several; an array of one image has three axes or fewer."""
        return super().is_single(inputs) or hasattr(inputs, "convert") or getattr(inputs, "ndim", 9) <= 3

    def prepare_images(self, items: list[Any], timeout: float | None, **options: Any) -> list[list[Row]]:
        """Give the pixels of each image."""
        images = [_fetched(item, timeout) for item in items]
        columns = self.image_processor(images, **options)
        rows = [Row({name: values[index] for name, values in columns.items()}) for index in range(len(images))]
        return [[row] for row in rows]

    def pad(self, rows: list[dict[str, Any]]) -> Mapping[str, Any]:
        """Images of different sizes are never in one batch."""
        raise InputError("Images of different sizes cannot be one batch.")


def _fetched(item: Any, timeout: float | None) -> Any:
    is_address = isinstance(item, str) and item.startswith(("http://", "https://", "data:"))
    if not is_address:
        return item
    return load_image(item) if timeout is None else load_image(item, timeout=timeout)


@dataclass(kw_only=True)
class ImageClassificationOptions:
    """Options of `image-classification`; `timeout` is in seconds, for images with an address."""

    top_k: int | None = 5
    function_to_apply: str | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        self.function_to_apply = check_function(self.function_to_apply)
        check_count(self.top_k)


class ImageClassificationPipeline(ImagePipeline):
    """Gives the likeliest labels of an image, `[{"label": "cat", "score": 0.9}, …]`."""

    task = "image-classification"
    auto_classes = ("AutoModelForImageClassification",)
    options_class = ImageClassificationOptions

    def prepare(self, items: list[Any], options: ImageClassificationOptions) -> list[list[Row]]:
        """Read the images."""
        return self.prepare_images(items, options.timeout)

    def answer(self, rows: list[Row], outputs: list[Any], options: ImageClassificationOptions) -> list[dict[str, Any]]:
        """Name the classes."""
        config = self.model.config
        function = options.function_to_apply or usual_function(config)
        return rank(apply_function(function, outputs[0]), config.id2label, options.top_k)


@dataclass(kw_only=True)
class ZeroShotImageOptions(ZeroShotOptions):
    """Options of `zero-shot-image-classification`.

    Attributes:
        candidate_labels: the classes, as a list or with commas between.
        hypothesis_template: the sentence that the label is put into.
        tokenizer_kwargs: further options of the tokenizer's call.
        timeout: in seconds, for images with an address.
    """

    hypothesis_template: str = "This is a photo of {}."
    tokenizer_kwargs: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None


class ZeroShotImageClassificationPipeline(ImagePipeline):
    """Sorts images into classes named in the call, by a model that compares images with texts.

    `classifier(image, ["a cat", "a dog"])` gives `[{"score": 0.9, "label": "a cat"}, …]`, the likeliest first.
    """

    task = "zero-shot-image-classification"
    auto_classes = ("AutoModelForZeroShotImageClassification",)
    needs = ("image_processor", "tokenizer")
    options_class = ZeroShotImageOptions

    def __call__(self, inputs: Any, candidate_labels: Any = None, **options: Any) -> Any:
        """Give the classes of an image, or of each image; `options` are those of `ZeroShotImageOptions`."""
        given = {} if candidate_labels is None else {"candidate_labels": candidate_labels}
        return super().__call__(inputs, **given, **options)

    def prepare(self, items: list[Any], options: ZeroShotImageOptions) -> list[list[Row]]:
        """Read the images."""
        if not options.candidate_labels:
            raise InputError("candidate_labels: give at least one label, classifier(image, ['a cat', 'a dog']).")
        return self.prepare_images(items, options.timeout)

    def forward(self, rows: list[Row], options: ZeroShotImageOptions) -> list[Any]:
        """Compare some images with every label's sentence."""
        sentences = [options.hypothesis_template.format(label) for label in options.candidate_labels]
        call = {"padding": True, **getattr(self.model, "text_options", {}), **options.tokenizer_kwargs}
        texts = self.tokenizer(sentences, return_tensors="pt", **call)
        inputs = {name: value for name, value in texts.items() if self._takes(name)}
        with torch.inference_mode():
            return self.read(self.model(**self.place({**inputs, **self.gather(rows)})), rows, options)

    def read(self, outputs: Any, rows: list[Row], options: ZeroShotImageOptions) -> list[Any]:
        """Keep the scores of each image."""
        return list(outputs["logits_per_image"].float().cpu().numpy())

    def answer(self, rows: list[Row], outputs: list[Any], options: ZeroShotImageOptions) -> list[dict[str, Any]]:
        """Rank the labels; a model says how its scores become probabilities, of all labels together unless it does."""
        scores = apply_function(getattr(self.model, "score_function", "softmax"), outputs[0])
        best = (-scores).argsort(kind="stable")
        return [{"score": float(scores[place]), "label": options.candidate_labels[place]} for place in best]


@dataclass(kw_only=True)
class ImageFeatureOptions:
    """Options of `image-feature-extraction`; `pool` gives the pooled features alone."""

    image_processor_kwargs: dict[str, Any] = field(default_factory=dict)
    pool: bool = False
    return_tensors: bool | str = False
    timeout: float | None = None


class ImageFeatureExtractionPipeline(ImagePipeline):
    """Gives what a model without a head makes of an image: a list (1, places, width), or a tensor."""

    task = "image-feature-extraction"
    auto_classes = ("AutoModel",)
    options_class = ImageFeatureOptions

    def prepare(self, items: list[Any], options: ImageFeatureOptions) -> list[list[Row]]:
        """Read the images."""
        return self.prepare_images(items, options.timeout, **options.image_processor_kwargs)

    def read(self, outputs: Any, rows: list[Row], options: ImageFeatureOptions) -> list[Any]:
        """Keep the pooled features, or the first of the outputs."""
        if options.pool and outputs.get("pooler_output") is None:
            raise InputError(f"pool=True: {type(self.model).__name__} gives no pooler_output.")
        kept = outputs["pooler_output"] if options.pool else outputs[0]
        return [one[None].cpu() for one in kept]

    def answer(self, rows: list[Row], outputs: list[torch.Tensor], options: ImageFeatureOptions) -> Any:
        """Give the features."""
        return outputs[0] if options.return_tensors else outputs[0].float().tolist()
