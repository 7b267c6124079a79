"""`maquette diff`: in what two models differ."""

from maquette.workshop.diff.outputs import Divergence as Divergence
from maquette.workshop.diff.outputs import find_divergence as find_divergence
from maquette.workshop.diff.survey import Difference as Difference
from maquette.workshop.diff.survey import diff as diff
