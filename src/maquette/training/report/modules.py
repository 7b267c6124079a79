"""The x-ray's look at the model of a run: its modules, and where the work of one row goes."""

import logging
from typing import Any

logger = logging.getLogger(__name__)


def look_through(model: Any) -> Any:
    """Give an `XRay` of a copy of a model without its memory; None where there is no seeing through it."""
    # These bring torch and the whole workshop: not where a report is read, or a Trainer imported.
    from maquette.training.model_states import is_sharded
    from maquette.training.random_states import seeded
    from maquette.workshop.xray import xray
    from maquette.workshop.xray.subject import shadow

    if is_sharded(model):
        return None
    try:
        with seeded("x-ray"):
            copied = shadow(model, None)
            copied.__dict__.pop("forward", None)  # which runs the model that it was copied from
            return xray(copied, batch=1)
    except Exception:  # of whatever a model may hold: the report has the tree of parameters, too
        logger.debug("The report has no x-ray of %s.", type(model).__name__, exc_info=True)
        return None
