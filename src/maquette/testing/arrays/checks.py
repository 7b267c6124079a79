"""The checks that Keras and Flax models have in common, in the order in which they run."""

from maquette.testing.arrays.computing import (
    check_batch,
    check_compile,
    check_determinism,
    check_half_precision,
    check_padding,
)
from maquette.testing.arrays.saving import (
    check_names,
    check_resizing,
    check_ties,
)
from maquette.testing.basics import check_construction, check_forward, check_from_config, check_reload, check_seed
from maquette.testing.carrying import check_state
from maquette.testing.frameworks import check_frameworks
from maquette.testing.processes import check_fresh_process, check_travel
from maquette.testing.report import Check

RUNS = ("forward", "determinism")

FIRST = (
    Check("construction", check_construction),
    Check("forward", check_forward, needs=("construction",)),
    Check("seed", check_seed, needs=("construction",)),
    Check("from_config", check_from_config, needs=("construction", "seed")),
    Check("names", check_names, needs=("forward",)),
    Check("determinism", check_determinism, needs=("forward",)),
    Check("compile", check_compile, needs=RUNS),
    Check("batch", check_batch, needs=RUNS),
    Check("padding", check_padding, needs=RUNS),
    Check("state", check_state, needs=RUNS),
    Check("reload", check_reload, needs=RUNS),
    Check("ties", check_ties, needs=("forward",)),
    Check("half_precision", check_half_precision, needs=(*RUNS, "from_config")),
    Check("resizing", check_resizing, needs=(*RUNS, "from_config")),
)
# These come last: they look at whatever the others saved.
LAST = (
    Check("frameworks", check_frameworks, needs=(*RUNS, "reload")),
    Check("fresh_process", check_fresh_process, needs=(*RUNS, "reload")),
    Check("travel", check_travel, needs=(*RUNS, "reload")),
)
