"""The workshop: what a person with an architecture of their own does all day, as functions.

Each is also a command of `maquette` on the command line, of nearly the same name.
"""

from maquette.workshop.checking import PURPOSES as PURPOSES
from maquette.workshop.checking import Examination as Examination
from maquette.workshop.checking import check as check
from maquette.workshop.conversion import Conversion as Conversion
from maquette.workshop.conversion import convert as convert
from maquette.workshop.drawings import draw_attention as draw_attention
from maquette.workshop.drawings import draw_tokens as draw_tokens
from maquette.workshop.first_look import FirstLook as FirstLook
from maquette.workshop.first_look import try_out as try_out
from maquette.workshop.graft import Grafting as Grafting
from maquette.workshop.graft import WeightMap as WeightMap
from maquette.workshop.graft import graft as graft
from maquette.workshop.packages import make_package as make_package
from maquette.workshop.ship import Shipment as Shipment
from maquette.workshop.ship import ship as ship
from maquette.workshop.targets import Target as Target
from maquette.workshop.targets import open_target as open_target
