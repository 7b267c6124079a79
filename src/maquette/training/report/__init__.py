"""One HTML page that shows how a training run went."""
