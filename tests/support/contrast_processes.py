"""One process of several: what a model of two towers learns from its rows of a batch.

    python contrast_processes.py FOLDER

RANK, WORLD_SIZE and the address come from the environment. FOLDER has models, one folder each, rows.safetensors, and
divided.json, how many rows each process gets. Writes <model>-<rank>.safetensors: the loss and all gradients.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from maquette import AutoModel


def learn(folder, name, rows, wrap):
    """Give the loss and the gradients of some rows."""
    model = AutoModel.from_pretrained(folder / name).train()
    wrapped = wrap(model)  # kept until the gradients are there
    loss = wrapped(**rows, return_loss=True).loss
    loss.backward()
    return {"loss": loss.detach(), **{key: p.grad for key, p in model.named_parameters() if p.grad is not None}}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank, rows = torch.distributed.get_rank(), load_file(folder / "rows.safetensors")
    sizes = json.loads((folder / "divided.json").read_text(encoding="utf-8"))
    mine = {name: value.split(sizes)[rank] for name, value in rows.items()}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = learn(folder, place.name, mine, DistributedDataParallel)
        save_file(found, folder / f"{place.name}-{rank}.safetensors")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # threads of gloo sometimes abort an interpreter that ends in order


if __name__ == "__main__":
    main(Path(sys.argv[1]))
