"""Pictures for notebooks: what a model looks at, and how a text is cut into tokens."""

from maquette.workshop.drawings.attention import draw_attention as draw_attention
from maquette.workshop.drawings.tokens import draw_tokens as draw_tokens
