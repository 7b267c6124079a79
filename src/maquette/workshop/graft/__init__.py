"""`graft`: weights of another architecture, file or library, brought into a model by a map that can be read."""

from maquette.workshop.graft.grafting import Grafting as Grafting
from maquette.workshop.graft.grafting import graft as graft
from maquette.workshop.graft.weight_map import Question as Question
from maquette.workshop.graft.weight_map import Rule as Rule
from maquette.workshop.graft.weight_map import WeightMap as WeightMap
