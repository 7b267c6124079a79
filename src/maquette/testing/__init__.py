"""The conformance kit: whether a configuration and a model keep what they promise, told all at once.

    from maquette.testing import check_config, check_model

    check_config(MyConfig)
    print(check_model(MyModel, MyConfig(dim=16), inputs={"x": torch.randn(2, 16)}))

Every check runs; then either a `Report` comes back, or one `ConformanceError` lists all that is wrong and how to fix
it. Checks of configurations need no deep-learning framework.
"""

from maquette.testing.cases import Case, cases, tiny_config
from maquette.testing.configuration import check_config
from maquette.testing.model import check_model
from maquette.testing.processes import one_fresh_process
from maquette.testing.report import ConformanceError, Fault, Report

__all__ = [
    "Case",
    "ConformanceError",
    "Fault",
    "Report",
    "cases",
    "check_config",
    "check_model",
    "one_fresh_process",
    "tiny_config",
]
