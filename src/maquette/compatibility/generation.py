"""What classes that generate text derive from: they load and answer calls as models."""

from typing import Any, NoReturn


class GenerationMixin:
    """Says that maquette does not generate, where Transformers would."""

    def generate(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            NotImplementedError: always; it says what to do.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.generate: maquette runs models, and generates no text. Call the model token by "
            "token, or load the checkpoint with transformers."
        )
