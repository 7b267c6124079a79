"""`maquette xray`: a model known from its configuration, without memory for its weights."""

from maquette.workshop.xray.page import write_page as write_page
from maquette.workshop.xray.survey import XRay as XRay
from maquette.workshop.xray.survey import xray as xray
