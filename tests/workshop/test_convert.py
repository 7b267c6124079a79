"""`maquette convert`: what was pickled, or written by Flax and Keras, as safetensors, with nothing run on the way."""

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maquette import (
    DistilBertConfig,
    DistilBertModel,
    FileFormatError,
    MissingFileError,
    SaveError,
    UntrustedCodeError,
)
from maquette.cli.main import main
from maquette.workshop import convert

TINY = {"vocab_size": 40, "dim": 16, "n_heads": 4, "n_layers": 1, "hidden_dim": 24, "max_position_embeddings": 16}


class Calls:
    """A pickle of it calls a function when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def model() -> DistilBertModel:
    torch.manual_seed(0)
    return DistilBertModel(DistilBertConfig(**TINY)).eval()


def test_a_pickled_folder_loads_afterwards(model: DistilBertModel, tmp_path: Path) -> None:
    """Weights, configuration and what else lies there; no optimizer, no pickled arguments."""
    source = tmp_path / "pickled"
    model.config.save_pretrained(source)
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    torch.save({"lr": 1}, source / "training_args.bin")
    (source / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    found = convert(source, tmp_path / "made")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]
    again = DistilBertModel.from_pretrained(tmp_path / "made")
    assert all(again.state_dict()[name].equal(value) for name, value in model.state_dict().items())
    assert found.tensors == len(model.state_dict()) and found.files == {"pytorch_model.bin": "model.safetensors"}
    assert {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2"} <= {*found.calls}
    assert found.network in ("the kernel", "Python")


def test_a_pickle_that_calls_something_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {"w": torch.ones(2), "x": Calls(tmp_path / "ran")}
    torch.save(weights, tmp_path / "new.pt")
    torch.save(weights, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(weights["x"], protocol=4))
    for name in ("new.pt", "old.pt"):
        with pytest.raises(UntrustedCodeError, match=r"wants to call what no weights need:\n  - (posix|nt|os)\.mkdir"):
            convert(tmp_path / name, tmp_path / "made")
        assert not (tmp_path / "made").exists() and not (tmp_path / "ran").exists()
    monkeypatch.setattr(sys, "argv", ["maquette", "convert", str(tmp_path / "plain.pt"), str(tmp_path / "m"), "--json"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "UntrustedCodeError"
    assert not (tmp_path / "m").exists() and not (tmp_path / "ran").exists()


def test_a_checkpoint_of_a_training_script(tmp_path: Path) -> None:
    """The weights among other things, tied ones too, a view of a larger tensor, half precision, and no gradient."""
    base = torch.arange(6.0)
    state = {
        "a.weight": base.view(2, 3),
        "tied.weight": base.view(2, 3),
        "part": torch.arange(10.0)[2:4],
        "half": torch.ones(2, dtype=torch.bfloat16),
        "turned": torch.arange(6.0).view(2, 3).T,
        "parameter": torch.nn.Parameter(torch.zeros(1)),
        "version": 3,
    }
    torch.save({"epoch": 7, "state_dict": state, "optimizer": {"m": torch.zeros(2)}}, tmp_path / "last.ckpt")
    found = convert(tmp_path / "last.ckpt", tmp_path / "made")
    written = load_file(tmp_path / "made" / "model.safetensors")
    assert written.keys() == state.keys() - {"version"}
    assert all(written[name].equal(state[name]) and written[name].dtype == state[name].dtype for name in written)
    assert found.left_out == {"epoch": "beside the weights", "optimizer": "beside the weights", "version": "a int"}
    other = convert(tmp_path / "last.ckpt", tmp_path / "other", key="optimizer")
    assert other.tensors == 1


def test_shards_stay_shards(model: DistilBertModel, tmp_path: Path) -> None:
    source = tmp_path / "pickled"
    model.config.save_pretrained(source)
    state = model.state_dict()
    names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    halves = [dict(list(state.items())[::2]), dict(list(state.items())[1::2])]
    for name, half in zip(names, halves, strict=True):
        torch.save(half, source / name)
    weight_map = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = convert(source, tmp_path / "made")
    assert len(found.files) == 2 and found.tensors == len(state)
    again = DistilBertModel.from_pretrained(tmp_path / "made")
    assert all(again.state_dict()[name].equal(value) for name, value in state.items())


def test_what_is_no_pickle_is_said_without_advice_to_trust_it(tmp_path: Path) -> None:
    (tmp_path / "notes.bin").write_text('{"a": 1}\nmore text')
    with pytest.raises(FileFormatError) as caught:
        convert(tmp_path / "notes.bin", tmp_path / "made")
    assert str(caught.value) == "notes.bin is damaged, or no pickled weights: Unsupported operand 123"


def test_the_child_process_has_no_network() -> None:
    """Neither by Python nor, where the kernel lets it, at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            "import sys, socket\nfrom maquette.workshop.unpickling import forbid, shut_network\n"
            "by = shut_network()\nsys.argv[1] == 'both' and forbid()\n"
            f"try:\n    socket.create_connection(('127.0.0.1', {port}), timeout=5)\n"
            "except (OSError, PermissionError) as error:\n    print('refused', by)\nelse:\n    print('connected', by)"
        )
        for what in ("both", "kernel"):
            done = subprocess.run([sys.executable, "-c", code, what], capture_output=True, text=True, check=True)
            answer, by = done.stdout.split(maxsplit=1)
            assert answer == "refused" or (what == "kernel" and by.strip() == "Python")


def test_weights_of_flax(tmp_path: Path) -> None:
    """As flax serialises them, with the axes that layers of torch have; bfloat16 as well."""
    draw = np.random.default_rng(0)
    dense, conv = draw.normal(size=(3, 5)).astype("f4"), draw.normal(size=(2, 2, 3, 4)).astype("f4")
    scale = draw.normal(size=5).astype("f4")

    def pack(array: np.ndarray, kind: str | None = None) -> msgspec.msgpack.Ext:  # flax.serialization._ndarray_to_bytes
        content = msgspec.msgpack.encode((array.shape, kind or array.dtype.name, array.tobytes()))
        return msgspec.msgpack.Ext(1, content)

    half = torch.ones(4, dtype=torch.bfloat16) / 3
    tree = {
        "layer": {"0": {"dense": {"kernel": pack(dense), "bias": pack(half.view(torch.int16).numpy(), "bfloat16")}}},
        "norm": {"scale": pack(scale)},
        "words": {"embedding": pack(dense)},
        "conv": {"kernel": pack(conv)},
    }
    (tmp_path / "flax").mkdir()
    (tmp_path / "flax" / "flax_model.msgpack").write_bytes(msgspec.msgpack.encode({"params": tree}))
    convert(tmp_path / "flax", tmp_path / "made")
    written = load_file(tmp_path / "made" / "model.safetensors")
    assert torch.equal(written["layer.0.dense.weight"], torch.from_numpy(dense.T.copy()))
    assert torch.equal(written["layer.0.dense.bias"], half)
    assert torch.equal(written["norm.weight"], torch.from_numpy(scale))
    assert torch.equal(written["words.weight"], torch.from_numpy(dense))
    image = torch.from_numpy(draw.normal(size=(1, 3, 6, 6)).astype("f4"))
    expected = np.einsum("bchwij,ijco->bohw", np.lib.stride_tricks.sliding_window_view(image, (2, 2), (2, 3)), conv)
    assert np.allclose(torch.nn.functional.conv2d(image, written["conv.weight"]), expected, atol=1e-5)


def test_weights_of_keras_as_transformers_wrote_them(tmp_path: Path) -> None:
    kernel, words = np.arange(6, dtype="f4").reshape(2, 3), np.ones((4, 2), "f4")
    (tmp_path / "keras").mkdir()
    with h5py.File(tmp_path / "keras" / "tf_model.h5", "w") as file:
        names = [
            b"tf_net/net/encoder/layer_._0/q_lin/kernel:0",
            b"tf_net/net/words/weight:0",
            b"tf_net/net/norm/gamma:0",
        ]
        file.attrs["layer_names"] = [b"net"]
        group = file.create_group("net")
        group.attrs["weight_names"] = names
        for name, array in zip(names, (kernel, words, np.zeros(2, "f4")), strict=True):
            group.create_dataset(name.decode(), data=array)
    convert(tmp_path / "keras", tmp_path / "made")
    written = load_file(tmp_path / "made" / "model.safetensors")
    assert torch.equal(written["net.encoder.layer.0.q_lin.weight"], torch.from_numpy(kernel.T.copy()))
    assert written.keys() == {"net.encoder.layer.0.q_lin.weight", "net.words.weight", "net.norm.weight"}


def test_what_cannot_be_converted_is_said(model: DistilBertModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "ours")
    with pytest.raises(MissingFileError, match="has safetensors already"):
        convert(tmp_path / "ours", tmp_path / "made")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="has no weights that are converted"):
        convert(tmp_path / "empty", tmp_path / "made")
    with pytest.raises(MissingFileError, match="There is no file or folder"):
        convert(tmp_path / "nothing", tmp_path / "made")
    for name in ("a.pt", "b.pt"):
        (tmp_path / "empty" / name).write_bytes(b"nothing of the kind")
    with pytest.raises(MissingFileError, match="several files of weights"):
        convert(tmp_path / "empty", tmp_path / "made")
    with pytest.raises(FileFormatError, match="is damaged, or no pickled weights"):
        convert(tmp_path / "empty" / "a.pt", tmp_path / "made")
    torch.save({"one": {"w": torch.ones(1)}, "two": {"w": torch.ones(1)}}, tmp_path / "groups.pt")
    with pytest.raises(FileFormatError, match="under one, two: name one with --key"):
        convert(tmp_path / "groups.pt", tmp_path / "made")
    (tmp_path / "empty" / "flax_model.msgpack").write_bytes(b"\xc1")
    with pytest.raises(FileFormatError, match="no msgpack file of flax"):
        convert(tmp_path / "empty" / "flax_model.msgpack", tmp_path / "made")
    assert not (tmp_path / "made").exists()
    with pytest.raises(SaveError, match="has something in it"):
        convert(tmp_path / "groups.pt", tmp_path / "empty")
