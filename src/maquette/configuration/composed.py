"""Configurations inside of configurations: what models made of models ask of their parts."""

from maquette.configuration.config import PretrainedConfig


def check_parts(config: PretrainedConfig) -> None:
    """Refuse configurations inside that do not say of which architecture they are.

    Raises:
        ValueError: naming them.
    """
    unnamed = [name for name in config.sub_configs if not getattr(config, name).model_type]
    if unnamed:
        raise ValueError(f"{', '.join(unnamed)}: no model_type, so it is not known of which architecture the part is.")
