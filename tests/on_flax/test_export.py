"""Programs of `jax.export` take any number of rows, and texts and sounds of any length."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import export

import maquette

RNG = np.random.default_rng(0)
SOUND = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SOUND |= {"conv_dim": [8, 8], "conv_stride": [5, 2], "conv_kernel": [10, 3], "vocab_size": 12}
SOUND |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
IMAGE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXT = {"vocab_size": 30, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 64}
# class, configuration, the shape of an input with free sizes, what is known of these, and sizes to try
CASES = {
    "vit": ("ViTForImageClassification", IMAGE | {"image_size": 32}, "b, 3, 32, 32", [], (3, 3, 32, 32)),
    "resnet": (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        "b, 3, 32*h, 32*w",
        [],
        (1, 3, 64, 32),
    ),
    "distilbert": ("DistilBertForSequenceClassification", TEXT, "b, n", ["n <= 64"], (3, 7)),
    "wav2vec2": ("Wav2Vec2ForCTC", SOUND, "b, n", ["n >= 20"], (3, 500)),
}


@pytest.mark.parametrize("case", CASES)
def test_sizes_are_free(case: str) -> None:
    name, fields, shape, known, sizes = CASES[case]
    model: Any = getattr(maquette, f"Flax{name}")
    module, variables = model.from_config(model.config_class(**fields)).unbind()
    if case == "distilbert":
        arrays = {"input_ids": RNG.integers(1, 30, sizes), "attention_mask": np.ones(sizes, np.int64)}
        arrays["attention_mask"][0, 4:] = 0
    else:
        arrays = {model.main_input_name: RNG.normal(size=sizes).astype(np.float32)}
    arrays = {key: np.asarray(jax.numpy.asarray(value)) for key, value in arrays.items()}

    def run(variables: Any, arrays: Any) -> Any:
        return module.apply(variables, **arrays).logits

    free = export.symbolic_shape(shape, constraints=known)
    shapes = {key: jax.ShapeDtypeStruct(free, value.dtype) for key, value in arrays.items()}
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
    program = export.deserialize(export.export(jax.jit(run))(like, shapes).serialize())
    np.testing.assert_allclose(program.call(variables, arrays), run(variables, arrays), rtol=1e-5, atol=1e-5)
