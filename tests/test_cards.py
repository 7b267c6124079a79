"""The conformance kit on every model of every card."""

import pytest

from maquette.testing import cases, check_config, tiny_config

CARDS = {case.card.model_type: case.card for case in cases()}


@pytest.mark.parametrize("case", cases(), ids=str)
def test_model(case) -> None:
    report = case.check()
    assert {"reload", "fresh_process", "gradients", "export"} <= set(report.passed)


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_configuration(card) -> None:
    config = tiny_config(card)
    check_config(type(config), config)
