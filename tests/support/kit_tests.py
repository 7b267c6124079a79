"""Tests that the halves of the conformance kit share; a test file imports all, and says what it has.

CHECKS are those of the half, ELSEWHERE names those that other tests look at, BROKEN lists a model class, the check that
it fails, and what is said. TRAVELLER is the source of a model of PREFIX's framework that calls `factor` of its sibling.
"""

import importlib
from pathlib import Path
from typing import Any

import pytest

from maquette.testing import ConformanceError, check_model, one_fresh_process

__all__ = [
    "_one_process",
    "faults_of",
    "pytest_generate_tests",
    "test_a_broken_model_is_caught_by_name",
    "test_code_that_travels_is_loaded_with_nothing_else",
    "test_every_check_has_a_broken_model",
    "traveller",
]


@pytest.fixture(scope="module", autouse=True)
def _one_process():
    with one_fresh_process():
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_a_broken_model_is_caught_by_name:
        rows = metafunc.module.BROKEN
        metafunc.parametrize(("model_class", "check", "culprits"), rows, ids=[f"{c.__name__}-{k}" for c, k, _ in rows])


def faults_of(model_class: Any, *only: str, config: Any = None, **options: Any) -> dict[str, str]:
    """Examine a broken model; gives what is said under each failed check."""
    with pytest.raises(ConformanceError) as caught:
        check_model(model_class, config or model_class.config_class(), only=only or None, **options)
    return {name: "\n".join(map(str, faults)) for name, faults in caught.value.report.failed.items()}


def test_a_broken_model_is_caught_by_name(model_class: Any, check: str, culprits: list[str]) -> None:
    said = faults_of(model_class, check)
    assert set(said) == {check}
    assert [culprit for culprit in culprits if culprit not in said[check]] == [], said[check]


def test_every_check_has_a_broken_model(request: pytest.FixtureRequest) -> None:
    mine = request.module
    assert {check for _, check, _ in mine.BROKEN} == {check.name for check in mine.CHECKS} - mine.ELSEWHERE


def traveller(module: Any, folder: Path, package: str, imports: str) -> Any:
    """Write a package with a model that needs its sibling, import it, and register it to carry its code."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    (folder / package / "sibling.py").write_text("def factor():\n    return 2\n")
    (folder / package / "modeling.py").write_text(module.TRAVELLER.format(imports=imports, package=package))
    written = importlib.import_module(f"{package}.modeling")
    written.TravellerConfig.register_for_auto_class()
    model_class = getattr(written, f"{module.PREFIX}Traveller")
    model_class.register_for_auto_class(f"{module.PREFIX}AutoModel")
    return model_class


def test_code_that_travels_is_loaded_with_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    model_class = traveller(request.module, tmp_path, "complete_kit", "from .sibling import factor")
    report = check_model(model_class, model_class.config_class(), only=["travel", "fresh_process"])
    assert report.passed == ("fresh_process", "travel")

    hidden = "factor = importlib.import_module('lossy_kit.sibling').factor"
    said = faults_of(traveller(request.module, tmp_path, "lossy_kit", hidden), "travel", "fresh_process")
    assert set(said) == {"travel"}
    assert "lossy_kit" in said["travel"]
