"""Which constructors survive a save and a load, in maquette and in the peer.

The kinds are those of `tests/support/constructors.py`.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/constructors.py

The peer gets the same classes, with the two things it asks for added: a hand-written configuration constructor, and a
call of `post_init()` at the end of each model's. Everything a model holds is compared bit for bit, saved or not.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SUPPORT = Path(__file__).parents[1] / "tests" / "support"

PEER_CONFIG = """class TrickyConfig(PretrainedConfig):
    model_type = "tricky"

    def __init__(self, dim=6, depth=3, backbone="", **kwargs):
        self.dim, self.depth, self.backbone = dim, depth, backbone
        super().__init__(**kwargs)


class Tricky(PreTrainedModel):
    config_class = TrickyConfig

    def __init_subclass__(cls):
        super().__init_subclass__()
        constructor = cls.__init__

        def construct(self, config):
            constructor(self, config)
            self.post_init()

        cls.__init__ = construct
"""

RUN = """
import os, shutil, sys, warnings
warnings.simplefilter("ignore")
sys.path[:0] = [{folder!r}, {tests!r}]
import torch
import kinds

for kind in kinds.KINDS:
    try:
        torch.manual_seed(11)
        config = kinds.TrickyConfig()
        if kind.__name__ == "NestedLoad":
            kinds.RawParameters(config).save_pretrained("backbone")
            os.environ["BACKBONE"] = "backbone"
        if kind.__name__ == "TimmBlocks" and {library!r} != "maquette":
            continue  # the peer's environment has no timm
        model = kind(config)
        if kind.__name__ in ("LateBuffers", "OwnInitialisation"):
            model(torch.randn(5, config.dim))
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters()):
                parameter += number + 1
        model.save_pretrained("saved")
        loaded = kind.from_pretrained("saved")
        expected, found = kinds.snapshot(model), kinds.snapshot(loaded)
        wrong = [name for name in expected if name not in found or not torch.equal(found[name], expected[name])]
        verdict = "differs: " + ", ".join(wrong[:3]) if wrong else "bit-exact"
    except Exception as error:
        verdict = type(error).__name__ + ": " + str(error).splitlines()[0][:60]
    print(kind.__name__ + "|" + verdict)
    shutil.rmtree("saved", ignore_errors=True)
"""


def translate(source: str) -> str:
    """Write the kinds as the peer wants them."""
    start, end = source.index("class TrickyConfig"), source.index("    def forward(self, x: torch.Tensor)")
    return (source[:start] + PEER_CONFIG + "\n" + source[end:]).replace(
        "from maquette import", "from transformers import"
    )


def run(library: str, interpreter: str, source: str) -> dict[str, str]:
    """Give the verdict on every kind."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kinds.py").write_text(source, encoding="utf-8")
        code = RUN.format(folder=folder, tests=str(SUPPORT), library=library)
        done = subprocess.run([interpreter, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
    return dict(line.split("|", 1) for line in done.stdout.splitlines() if "|" in line)


def main() -> None:
    source = (SUPPORT / "constructors.py").read_text(encoding="utf-8")
    ours = run("maquette", sys.executable, source)
    theirs = run("transformers", os.environ["MAQUETTE_PEER_PYTHON"], translate(source))
    for kind, verdict in ours.items():
        print(f"{kind:20} {verdict:12} {theirs.get(kind, '(not run: no timm there)')}")


if __name__ == "__main__":
    main()
