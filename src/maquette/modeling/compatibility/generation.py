"""What classes that generate text derive from, beside their base class, which generates already."""


class GenerationMixin:
    """Adds nothing: every `PreTrainedModel` has `generate`."""
