"""What the peer computes with folders that bring code for it; run in the peer's environment: jobs.json found.json.

The peer of today has dropped names that the older folders take. They are put back where they were, so that it can say
what those folders compute; the code itself runs unchanged.
"""

import json
import sys
import types
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import modeling_utils, pytorch_utils, utils

transformers.logging.set_verbosity_error()


def find_pruneable_heads_and_indices(*args):
    raise NotImplementedError("Nothing is pruned here.")


def get_head_mask(self, head_mask, num_hidden_layers):
    return [None] * num_hidden_layers


def get_extended_attention_mask(self, attention_mask, input_shape):
    return (attention_mask[:, None, None, :] == 0) * torch.finfo(torch.float32).min


for place in (modeling_utils, pytorch_utils):
    place.apply_chunking_to_forward = pytorch_utils.apply_chunking_to_forward
    place.prune_linear_layer = place.find_pruneable_heads_and_indices = find_pruneable_heads_and_indices
pytorch_utils.is_torch_greater_or_equal_than_1_13 = True
utils.is_flash_attn_greater_or_equal_2_10 = utils.import_utils.is_torch_fx_available = lambda: False
for name, value in {"use_return_dict": True, "is_decoder": False, "chunk_size_feed_forward": 0}.items():
    setattr(transformers.PretrainedConfig, name, value)
methods = {"get_head_mask": get_head_mask, "get_extended_attention_mask": get_extended_attention_mask}
for name, value in {**methods, "all_tied_weights_keys": {}}.items():
    setattr(modeling_utils.PreTrainedModel, name, value)
for name in ("replace_return_docstrings", "add_code_sample_docstrings"):  # which now read docstrings in another form
    setattr(utils, name, lambda *texts, **settings: lambda function: function)
older = sys.modules["transformers.file_utils"] = types.ModuleType("transformers.file_utils")
older.__dict__.update({name: getattr(utils, name) for name in dir(utils)})

found = {}
for job in json.loads(Path(sys.argv[1]).read_text()):
    try:
        auto_class = getattr(transformers, job["auto_class"])
        config = transformers.AutoConfig.from_pretrained(job["folder"], trust_remote_code=True)
        # not from_pretrained, which leaves buffers that the constructor computes without their values
        model = auto_class.from_config(config, trust_remote_code=True).eval()
        weights = load_file(Path(job["folder"]) / "model.safetensors")
        assert not model.load_state_dict(weights, strict=False).unexpected_keys
        if "lm_head.weight" not in weights and (head := model.get_output_embeddings()) is not None:
            head.weight = model.get_input_embeddings().weight
        inputs = {name: torch.tensor(value) for name, value in job["inputs"].items()}
        with torch.no_grad(), warnings.catch_warnings():
            found[job["name"]] = model(**inputs, **job.get("options", {}))[0].tolist()
    except Exception as error:  # reported to the test that asked
        found[job["name"]] = f"{type(error).__name__}: {error}"
Path(sys.argv[2]).write_text(json.dumps(found))
