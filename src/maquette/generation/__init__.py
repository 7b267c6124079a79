"""How texts are continued: settings, functions on logits, when a row ends, streams, and the engine on a model."""

SETTINGS_FILE = "generation_config.json"
