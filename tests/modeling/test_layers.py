"""Rotary positions, norms, gated networks and mixtures of experts: against the peer, and the papers in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rounding import assert_near
from safetensors.torch import load_file, save_file
from torch.nn.functional import linear, silu

from maquette import GatedFeedForward, MixtureOfExperts, RMSNorm, RotaryConfig, RotaryEmbedding
from maquette.errors import ConfigurationError
from maquette.modeling.layers import experts
from maquette.modeling.layers.experts import Router, compute_balance_loss, grouped_linear
from maquette.modeling.layers.rotary import rotate, row_lengths
from maquette.modeling.packing import lay_out

WIDTH, ORIGINAL = 16, 64
SHORT, LONG = [1.0 + 0.1 * n for n in range(8)], [2.0 + 0.5 * n for n in range(8)]
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
SCALINGS = {
    "default": {"rope_type": "default"},
    "another theta": {"rope_type": "default", "rope_theta": 5e5},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": YARN,
    "yarn, blended finely": {**YARN, "truncate": False, "beta_fast": 16, "beta_slow": 2},
    "yarn, mscale": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2},
    "yarn, attention factor": {**YARN, "attention_factor": 1.25},
    "longrope": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "factor": 4.0},
    "longrope, original length": {
        "rope_type": "longrope",
        "short_factor": SHORT,
        "long_factor": LONG,
        "original_max_position_embeddings": 32,
    },
    "llama3": {**LLAMA3, "original_max_position_embeddings": 40},
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.5},
}
OLD = {
    "nothing": {},
    "theta": {"rope_theta": 5e5},
    "theta and scaling": {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "no scaling": {"rope_theta": 5e5, "rope_scaling": None},
    "llama 3.1": {"rope_theta": 5e5, "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 40}},
    "both": {"rope_theta": 5e5, "rope_parameters": {"rope_type": "default", "rope_theta": 7e5}},
}
SIZES = {"hidden_size": 32, "num_attention_heads": 2, "head_dim": WIDTH, "max_position_embeddings": ORIGINAL}


class Config(RotaryConfig):
    model_type = "rotary-test"
    hidden_size: int = 32
    num_attention_heads: int = 2
    head_dim: int | None = WIDTH
    max_position_embeddings: int = ORIGINAL


def make_inputs():
    torch.manual_seed(3)
    return {
        "norm.x": torch.randn(5, 16) * 3,
        "norm.weight": torch.randn(16),
        "router.logits": torch.randn(3, 14, 5),
        "router.mask": (torch.rand(2, 7) < 0.6).long(),
    }


@pytest.fixture(scope="module")
def peer(tmp_path_factory, run_peer):
    """What the peer computes: its results, and what became of the configurations."""
    folder = tmp_path_factory.mktemp("layers")
    cases = {name: {**SIZES, "rope_parameters": given} for name, given in SCALINGS.items()}
    cases |= {name: {**SIZES, **given} for name, given in OLD.items()}
    (folder / "rotary.json").write_text(json.dumps(cases), encoding="utf-8")
    save_file(make_inputs(), folder / "inputs.safetensors")
    run_peer(Path(__file__).parent / "peer_layers.py", folder)
    return load_file(folder / "results.safetensors"), json.loads((folder / "configurations.json").read_text())


# Rotary positions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SCALINGS)
def test_rotations_equal_the_peers(peer, case):
    rotary = RotaryEmbedding.of(Config(rope_parameters=SCALINGS[case]))
    for length in (30, 200):
        found = rotary(torch.arange(length)[None])
        expected = {name: peer[0][f"{name}.{case}.{length}"] for name in ("cos", "sin")}  # (1, length, width)
        half = WIDTH // 2
        assert_near(found.cos[:, :, 0], expected["cos"], f"cos, {length}")
        assert_near(found.sin[:, :, 0, half:], expected["sin"][..., half:], f"sin, {length}")
        assert torch.equal(found.sin[..., :half], -found.sin[..., half:])


@pytest.mark.parametrize("case", [*SCALINGS, *OLD])
def test_configurations_hold_what_the_peers_hold(peer, case):
    given = {"rope_parameters": SCALINGS[case]} if case in SCALINGS else OLD[case]
    config = Config(**given)
    expected = dict(peer[1][case])
    if case == "longrope":  # the peer puts the length it assumes into every file
        assert config.rope_parameters.pop("original_max_position_embeddings") == ORIGINAL
        expected.pop("original_max_position_embeddings")
    assert config.rope_parameters == expected
    assert config.rope_theta == expected["rope_theta"]
    assert (config.rope_scaling is None) == (expected["rope_type"] == "default")


def turn(x, positions, frequencies, scale=1.0):
    """Rotate pairs as complex numbers, in float64 (Su et al. 2021, equation 34)."""
    x = x.double().numpy()
    half = len(frequencies)
    pairs = x[..., :half] + 1j * x[..., half : 2 * half]
    angles = np.asarray(positions, dtype=np.float64)[..., None, None] * frequencies
    turned = pairs * np.exp(1j * angles) * scale
    return torch.from_numpy(np.concatenate([turned.real, turned.imag, x[..., 2 * half :]], axis=-1)).float()


def plain(width=WIDTH, theta=10_000.0):
    return theta ** (-np.arange(0, width, 2, dtype=np.float64) / width)


def by_paper(case, length):
    """Give frequencies and what scales the result, as the papers have them, in float64."""
    f = plain()
    if case == "linear":
        return f / 4, 1.0
    if case == "dynamic":
        longest = max(length, ORIGINAL)
        theta = 10_000 * (4 * longest / ORIGINAL - 3) ** (WIDTH / (WIDTH - 2))
        return plain(theta=theta), 1.0
    if case == "yarn, blended finely":  # Peng et al. 2023, equations 17, 20 and 22
        edges = [WIDTH * np.log(32 / (turns * 2 * np.pi)) / (2 * np.log(10_000)) for turns in (16, 2)]
        low, high = max(edges[0], 0), min(edges[1], WIDTH - 1)
        kept = 1 - np.clip((np.arange(WIDTH // 2) - low) / (high - low), 0, 1)
        return f / 4 * (1 - kept) + f * kept, 0.1 * np.log(4) + 1
    if case == "longrope, original length":  # Ding et al. 2024; max_position_embeddings is twice the original length
        factors = np.array(LONG if length > 32 else SHORT)
        return f / factors, np.sqrt(1 + np.log(2) / np.log(32))
    if case == "llama3":
        turns = 40 * f / (2 * np.pi)
        blend = np.clip((turns - 1) / 3, 0, 1)
        return f * ((1 - blend) / 8 + blend), 1.0
    return f, 1.0


@pytest.mark.parametrize(
    "case", ["default", "linear", "dynamic", "yarn, blended finely", "longrope, original length", "llama3"]
)
@pytest.mark.parametrize("length", [20, 200])
def test_states_are_turned_as_the_papers_say(case, length):
    torch.manual_seed(0)
    x = torch.randn(length, 3, WIDTH)
    rotary = RotaryEmbedding(WIDTH, SCALINGS[case], max_position_embeddings=ORIGINAL)
    found = rotate(x, rotary(torch.arange(length)))
    frequencies, scale = by_paper(case, length)
    # float32 knows an angle of `length` turns to within length * 2**-24 or so
    assert (found - turn(x, np.arange(length), frequencies, scale)).abs().max() < length * 2.0**-21


def test_a_part_of_each_head_can_be_turned():
    x = torch.randn(2, 7, 3, WIDTH)
    rotary = RotaryEmbedding(WIDTH, {"partial_rotary_factor": 0.5})
    found = rotate(x, rotary(torch.arange(7)[None]))
    assert torch.equal(found[..., 8:], x[..., 8:])
    torch.testing.assert_close(found, turn(x, np.arange(7)[None], plain(8)), atol=1e-5, rtol=0)


def test_frequencies_stay_in_float32_when_the_model_does_not():
    rotary = RotaryEmbedding(WIDTH, SCALINGS["yarn"], max_position_embeddings=ORIGINAL)
    before = rotary(torch.arange(3000)).cos
    rotary.to(torch.bfloat16)
    assert torch.equal(rotary(torch.arange(3000)).cos, before)
    assert rotary(torch.arange(3), dtype=torch.bfloat16).cos.dtype == torch.bfloat16
    assert not rotary.state_dict()


@pytest.mark.parametrize("case", ["dynamic", "longrope, original length"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_row_is_turned_by_its_own_length(case, packed):
    """Its neighbours, of whom one is longer than the original length, do not matter."""
    rotary = RotaryEmbedding(WIDTH, SCALINGS[case], max_position_embeddings=ORIGINAL)
    lengths = (10, 90, 33)
    mask = (torch.arange(90) < torch.tensor(lengths)[:, None]).flip(1)
    layout = lay_out(mask, mask, packed=packed, count_padding=False)
    positions = layout.positions(torch.device("cpu"))
    cos = layout.scatter(rotary(positions, row_lengths(layout, mask.device)).cos.expand(*positions.shape, 1, -1))
    for row, length in enumerate(lengths):
        assert torch.equal(cos[row, 90 - length :], rotary(torch.arange(length)).cos)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rope_type": "lama3"}, "no rope_type 'lama3'. Did you mean 'llama3'"),
        ({"rope_type": "linear"}, "'linear' needs factor"),
        ({"rope_type": "linear", "factor": -1.0}, "factor must be a number above 0, not -1.0"),
        ({**YARN, "beta_fats": 3}, "'yarn' has no 'beta_fats'. Did you mean 'beta_fast'"),
        ({**SCALINGS["longrope"], "long_factor": [1.0]}, "long_factor must have 8 numbers"),
        ({**LLAMA3, "low_freq_factor": 4.0}, "high_freq_factor=4.0 must be above low_freq_factor=4.0"),
    ],
)
def test_wrong_parameters_are_errors(parameters, message):
    with pytest.raises(ConfigurationError) as caught:
        Config(rope_parameters=parameters)
    assert message in str(caught.value)


def test_a_module_says_what_it_lacks():
    with pytest.raises(ConfigurationError, match="'dynamic' needs max_position_embeddings"):
        RotaryEmbedding(WIDTH, {"rope_type": "dynamic", "factor": 2.0})
    with pytest.raises(ConfigurationError, match="must be even: 7 of a head 7 wide"):
        RotaryEmbedding(7)


def test_a_configuration_is_read_back_as_it_was(tmp_path):
    config = Config(rope_theta=3.0, rope_scaling={"type": "linear", "factor": 2.0})
    config.save_pretrained(tmp_path)
    again = Config.from_pretrained(tmp_path)
    assert again == config and again.rope_parameters["factor"] == 2.0 and again.rope_theta == 3.0
    assert "rope_scaling" not in json.loads((tmp_path / "config.json").read_text())


# Norms and gated networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["plain", "plus one"])
def test_norms_equal_the_peers(peer, kind, dtype):
    inputs = make_inputs()
    norm = RMSNorm(16, eps=1e-5, plus_one=kind == "plus one")
    norm.weight.data = inputs["norm.weight"]
    found, expected = norm.to(dtype)(inputs["norm.x"].to(dtype)), peer[0][f"norm.{kind}.{dtype}"]
    if dtype == torch.bfloat16:  # the peer rounds where we do
        assert torch.equal(found, expected)
    assert_near(found.float(), expected.float())


def test_a_fresh_norm_leaves_unit_vectors():
    x = torch.tensor([[3.0, -3.0, 3.0, 3.0]])
    for plus_one in (False, True):
        torch.testing.assert_close(RMSNorm(4, plus_one=plus_one)(x), x / 3, atol=1e-6, rtol=0)


def test_a_gated_network_is_what_the_paper_says():
    torch.manual_seed(0)
    layer, x = GatedFeedForward(6, 10), torch.randn(4, 6)
    gate, up, down = (layer.get_parameter(f"{n}_proj.weight").detach().double().numpy() for n in ("gate", "up", "down"))
    gated = x.double().numpy() @ gate.T
    expected = (gated / (1 + np.exp(-gated)) * (x.double().numpy() @ up.T)) @ down.T
    assert_near(layer(x), torch.from_numpy(expected).float())


# Experts ---------------------------------------------------------------------------------------------------------


def one_by_one(layer, x):
    """Send each token through its experts by itself."""
    logits = linear(x, layer.gate.weight)
    result = torch.zeros_like(x)
    for place, scores in enumerate(logits.softmax(-1)):
        weights, chosen = scores.topk(layer.gate.top_k)
        if layer.gate.normalize:
            weights = weights / weights.sum()
        for expert, weight in zip(chosen.tolist(), weights, strict=True):
            gate, up = linear(x[place], layer.experts.gate_up_proj[expert]).chunk(2)
            result[place] = result[place] + weight * linear(silu(gate) * up, layer.experts.down_proj[expert])
    return result if layer.shared_experts is None else result + layer.shared_experts(x)


@pytest.mark.parametrize("width", [16, 6])  # rows of 16 bytes, which torch's grouped product takes, and others
@pytest.mark.parametrize("options", [{}, {"normalize": False}, {"shared": 8}])
def test_each_token_goes_through_its_experts(width, options):
    torch.manual_seed(0)
    layer = MixtureOfExperts(width, 12, experts=7, top_k=3, **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 4, width, dtype=torch.float64, requires_grad=True)  # fewer tokens than experts: some get none
    probe = torch.randn_like(x)
    found = torch.autograd.grad((layer(x) * probe).sum(), [x, *layer.parameters()])
    expected_output = one_by_one(layer, x.flatten(0, 1)).view_as(x)
    expected = torch.autograd.grad((expected_output * probe).sum(), [x, *layer.parameters()])
    assert_near(layer(x), expected_output)
    for one, other in zip(found, expected, strict=True):
        assert_near(one, other)
    assert layer(x[:, :0]).shape == (2, 0, width)


def test_a_router_chooses_before_or_after_the_softmax():
    torch.manual_seed(0)
    x = torch.randn(9, 6)
    before, after = Router(6, 5, top_k=2), Router(6, 5, top_k=2, softmax="after")
    after.load_state_dict(before.state_dict())
    assert torch.equal(before(x).experts, after(x).experts)
    assert_near(before(x).weights, after(x).weights)  # normalised, the two are the same
    with pytest.raises(ValueError, match="not to top_k=6"):
        Router(6, 5, top_k=6)
    with pytest.raises(ValueError, match='"before" or "after"'):
        Router(6, 5, top_k=2, softmax="never")


def test_grouped_products_are_layers_of_their_own(monkeypatch):
    torch.manual_seed(0)
    for inputs in (8, 3):
        x, weight = torch.randn(10, inputs), torch.randn(4, 8, inputs)
        ends = torch.tensor([3, 3, 9, 10], dtype=torch.int32)
        expected = torch.cat([linear(x[a:b], weight[n]) for n, (a, b) in enumerate(((0, 3), (3, 3), (3, 9), (9, 10)))])
        assert_near(grouped_linear(x, weight, ends), expected)
        with monkeypatch.context() as patch:
            patch.setattr(experts, "is_traced", lambda _: True)  # in a compiler, where no loop can ask for lengths
            assert_near(grouped_linear(x, weight, ends), expected)


def test_experts_have_names_of_their_own_in_files():
    torch.manual_seed(0)
    layer = MixtureOfExperts(4, 6, experts=3, top_k=1, names=("w1", "w3", "w2"))
    state = layer.state_dict()
    expected = {f"experts.{n}.{name}.weight" for n in range(3) for name in ("w1", "w2", "w3")}
    assert state.keys() == {"gate.weight", *expected}
    assert torch.equal(state["experts.2.w1.weight"], layer.experts.gate_up_proj[2, :6])
    assert torch.equal(state["experts.2.w3.weight"], layer.experts.gate_up_proj[2, 6:])
    again = MixtureOfExperts(4, 6, experts=3, top_k=1, names=("w1", "w3", "w2"))
    again.load_state_dict(state)
    x = torch.randn(5, 4)
    assert torch.equal(again(x), layer(x))
    with pytest.raises(RuntimeError, match=r"experts\.3\.w1\.weight"):  # one expert more
        again.load_state_dict(MixtureOfExperts(4, 6, experts=4, top_k=1, names=("w1", "w3", "w2")).state_dict())


def test_balance_losses_equal_the_peers(peer):
    inputs = make_inputs()
    logits = inputs["router.logits"].unbind()
    assert_near(compute_balance_loss(logits, top_k=2)[None], peer[0]["balance.all"])
    masked = compute_balance_loss(logits, top_k=2, mask=inputs["router.mask"])
    assert_near(masked[None], peer[0]["balance.some"])
    real = inputs["router.mask"].flatten().bool()
    packed = compute_balance_loss([layer[real] for layer in logits], top_k=2)
    assert_near(packed, masked)
