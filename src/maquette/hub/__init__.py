"""The Hub of models: names to files, uploads, and the README that goes with them."""
