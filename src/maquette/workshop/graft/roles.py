"""What a tensor is for, read from its name: names of many libraries, brought to the same words.

`transformer.h.3.attn.c_attn.weight` is `attention.qkv`, a `weight`, of the fourth block.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

KINDS = {"gamma": "weight", "beta": "bias"}
KIND = re.compile(r"(?P<path>.*?)[._](?P<kind>weight|bias|gamma|beta|running_mean|running_var|num_batches_tracked)")
NORM = r"(norm|layernorm|layer_norm|normalization|ln|bn)"
ATTENTION = re.compile(r"(^|[._])(self_?)?(attn|attention|sa|mha|mixer)([._]|$)")
CROSS = re.compile(r"cross_?att|encoder_?attn|encdecattention|multihead_attn")

# In this order, for the end of a path; what a rule has matched is no number of a block.
RULES = [
    ("attention.qkv", r"(in_proj|c_attn|qkv|qkv_proj|w_?qkv|query_key_value|to_qkv)"),
    ("norm.q", rf"(q|query)_{NORM}"),
    ("norm.k", rf"(k|key)_{NORM}"),
    ("attention.q", r"(q|wq|query|q_proj|q_lin|to_q|query_proj)"),
    ("attention.k", r"(k|wk|key|k_proj|k_lin|to_k|key_proj)"),
    ("attention.v", r"(v|wv|value|v_proj|v_lin|to_v|value_proj)"),
    ("attention.out", r"(o_proj|out_proj|out_lin|to_out\.0|to_out)"),
    ("norm.attention", r"attention\.output\.(layernorm|layer_norm)"),
    (
        "norm.attention",
        r"(norm1|norm_1|ln_1|ln1|layernorm1|sa_layer_norm|layernorm_before|input_layernorm|attn_norm|attention_norm"
        r"|self_attn_layer_norm|ln_attn|norm_attn)",
    ),
    (
        "norm.mlp",
        r"(norm2|norm_2|ln_2|ln2|layernorm2|output_layer_norm|layernorm_after|post_attention_layernorm|ffn_norm"
        r"|mlp_norm|ln_mlp|norm_mlp|output\.layernorm)",
    ),
    ("norm.embeddings", r"(embeddings?|embed)\.(layernorm|layer_norm|norm)"),
    ("embedding.tokens", r"(wte|word_embeddings?|embed_tokens|tok_embeddings?|token_embeddings?|tok_emb|token_embed)"),
    (
        "embedding.positions",
        r"(wpe|position_embeddings?|pos_embed(ding)?|embed_positions|pos_emb|position_embed)",
    ),
    ("embedding.types", r"(token_type_embeddings?|segment_embeddings?|type_embeddings?|seg_emb)"),
    ("embedding.class", r"(cls_token|class_token|class_embedding)"),
    ("patch", r"(patch_embed\.proj|patch_embeddings?\.projection|patch_embedding|conv_proj)"),
    ("pooler", r"pooler\.dense"),
    ("shortcut.conv", r"(downsample\.0|shortcut\.convolution|shortcut\.conv)"),
    ("shortcut.norm", r"(downsample\.1|shortcut\.normalization|shortcut\.bn|shortcut\.norm)"),
    ("mlp.gate", r"(gate_proj|wi_0)"),
    ("mlp.up", r"(up_proj|wi_1)"),
    ("mlp.gate_up", r"(gate_up_proj|gate_up)"),
    ("mlp.up", r"(fc1|lin1|linear1|c_fc|fc_in|dense_h_to_4h|intermediate\.dense|wi|mlp\.0|net\.0|ffn\.0|ff\.0)"),
    ("mlp.down", r"(fc2|lin2|linear2|fc_out|dense_4h_to_h|down_proj|mlp\.[23]|net\.[23]|ffn\.[23]|ff\.[23])"),
    ("router", r"(block_sparse_moe\.gate|mlp\.gate|router|router\.classifier|gate)"),
]
RULES_OF_LAYERS = [(role, re.compile(rf"(^|\.){pattern}$")) for role, pattern in RULES]
OUT = re.compile(r"(^|\.)(proj|c_proj|output\.dense|dense|wo|o)$")  # of attention or of the network behind it
GATED = {"w1": "mlp.gate", "w2": "mlp.down", "w3": "mlp.up"}
PLAIN = {"w1": "mlp.up", "w2": "mlp.down"}
HEAD = re.compile(r"(^|\.)(head|lm_head|classifier|classifier\.1|fc|score|embed_out|head\.fc|output|heads\.head)$")
FINAL = re.compile(rf"(^|[._])(final_)?{NORM}(_f|_final)?$")
CONV = re.compile(r"(^|\.)conv(olution)?\d*$")
OF_CONV = re.compile(r"(^|\.)(bn|norm|normalization)\d*$")


class Role(NamedTuple):
    """What a tensor is for.

    Attributes:
        part: such as "attention.q"; empty where the name does not say.
        kind: "weight", "bias" or the name of another tensor of a layer; empty for one that is no layer's.
        numbers: of blocks, experts and the like, as the name has them.
    """

    part: str
    kind: str
    numbers: tuple[int, ...]


def read_roles(names: Iterable[str]) -> dict[str, Role]:
    """Read what each tensor is for, numbers as their ranks among those that stand in the same place."""
    names = list(names)
    read = {name: _read(name, names) for name in names}
    values: dict[str, set[int]] = {}  # of the numbers behind a beginning that all blocks of a list share
    for _, rest in read.values():
        for start, number in _numbers(rest):
            values.setdefault(start, set()).add(number)
    ranks = {start: {number: rank for rank, number in enumerate(sorted(some))} for start, some in values.items()}
    return {
        name: role._replace(numbers=tuple(ranks[start][number] for start, number in _numbers(rest)))
        for name, (role, rest) in read.items()
    }


def _numbers(path: str) -> list[tuple[str, int]]:
    """Give the numbers of a path, each with what stands before it."""
    return [(re.sub(r"\d+", "{}", path[: one.start()]), int(one[0])) for one in re.finditer(r"\d+", path)]


def _read(name: str, names: list[str]) -> tuple[Role, str]:
    found = KIND.fullmatch(name)
    path, kind = (found["path"], found["kind"]) if found else (name, "")
    part, rest = _find_part(path.lower(), path, names)
    if CROSS.search(path.lower()) and part.startswith("attention."):
        part = "cross_" + part
    if "experts" in path.lower() and part.startswith("mlp."):
        part = part.replace("mlp.", "expert.")
    side = re.match(r"(?:\w+\.)*?(encoder|decoder)\.", path.lower())
    if side and part and len(_sides(names)) == 2:
        part = f"{side[1]}:{part}"
    return Role(part, KINDS.get(kind, kind), ()), rest


def _sides(names: list[str]) -> set[str]:
    """Say which of an encoder and a decoder have blocks."""
    found = (re.search(r"(^|\.)(encoder|decoder)\.(\w+\.)*\d+\.", name.lower()) for name in names)
    return {each[2] for each in found if each}


def _find_part(path: str, written: str, names: list[str]) -> tuple[str, str]:
    """Give the part, and what is left of the path, where numbers are those of blocks."""
    numbered = bool(re.search(r"\.\d+\.|\d+\.", f"{path}."))
    for role, rule in RULES_OF_LAYERS:
        if found := rule.search(path):
            return role, path[: found.start()]
    if path.rpartition(".")[2] in GATED:
        last, prefix = path.rpartition(".")[2], written.rpartition(".")[0]
        gated = any(name.lower().startswith(f"{prefix.lower()}.w3.") for name in names)
        if last in (GATED if gated else PLAIN):
            return (GATED if gated else PLAIN)[last], path[: -len(last)]
    if numbered and (found := OUT.search(path)):
        return ("attention.out" if ATTENTION.search(path) else "mlp.down"), path[: found.start()]
    if not re.search(r"\d+\.", path):
        if found := CONV.search(path):
            return "stem.conv", path[: found.start()]
        if found := HEAD.search(path):
            return "head", ""
        if "embedder" in path or (OF_CONV.search(path) and re.search(r"bn\d*$|normalization$", path)):
            return "stem.norm", ""
        if FINAL.search(path):
            return "norm.final", ""
    if CONV.search(path):
        return "conv", path
    if OF_CONV.search(path):
        return "norm.conv", path
    return "", path
