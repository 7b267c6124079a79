"""Blocks that decoders are composed of: rotary positions, norms, gated feed-forward networks, mixtures of experts."""
