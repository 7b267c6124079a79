"""The models to examine: for every model entry, every class that it names, on the card's tiny configuration.

    @pytest.mark.parametrize("case", cases(), ids=str)
    def test_model(case):
        case.check()

A card supplies the configuration as `tiny`, the fields that make the smallest useful one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from maquette.errors import ConfigurationError
from maquette.registry import ModelEntry, cards
from maquette.testing.model import check_model
from maquette.testing.report import Report


@dataclass(frozen=True)
class Case:
    """One model class of one card. Nothing is imported until it is asked for."""

    card: ModelEntry
    auto_class: str
    reference: str

    def __str__(self) -> str:
        return f"{self.card.model_type}-{self.reference.partition(':')[2]}"

    @property
    def model_class(self) -> Any:
        """The class to examine."""
        return self.card.load(self.reference)

    def config(self) -> Any:
        """Make the card's tiny configuration anew; a causal model's is that of a decoder, where it says so."""
        config = tiny_config(self.card)
        if self.auto_class == "AutoModelForCausalLM" and "is_decoder" in type(config)._own_fields():
            config.is_decoder = True
        return config

    def check(self, **options: Any) -> Report:
        """Examine the model; options are those of `check_model`."""
        return check_model(self.model_class, self.config(), **options)


def cases(card_list: Iterable[ModelEntry] | None = None, *, framework: str = "torch") -> list[Case]:
    """List every model class of a framework once, of all cards there are or of those given."""
    found: dict[tuple[str, str], Case] = {}
    for card in cards() if card_list is None else card_list:
        for auto_class, reference in card.models_in(framework).items():
            found.setdefault((card.package, reference), Case(card, auto_class, reference))
    return list(found.values())


def tiny_config(card: ModelEntry) -> Any:
    """Make the smallest useful configuration of a card's architecture.

    Raises:
        ConfigurationError: the card does not supply one.
    """
    tiny = getattr(card, "tiny", None)
    if not tiny:
        raise ConfigurationError(
            f"The card of {card.model_type!r} supplies no tiny configuration. Give it the fields of the smallest "
            "useful one: ModelEntry(…, tiny={'dim': 16, 'n_layers': 2})."
        )
    return card.load(card.config)(**tiny)
