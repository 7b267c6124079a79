"""Models for other engines: exported, opened by the engine in a fresh process, and compared before they are done."""

from maquette.workshop.ship.comparing import Comparison as Comparison
from maquette.workshop.ship.shipping import ENGINES as ENGINES
from maquette.workshop.ship.shipping import Shipment as Shipment
from maquette.workshop.ship.shipping import ship as ship
