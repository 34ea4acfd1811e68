"""Reads a checkpoint folder by transformers, and compares tensors with the files and nats per token with the engine's.

read_by_transformers.py FOLDER TOKENS.npy NATS.npy
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers import ImageGPTForCausalImageModeling

# Nats of f32 on both sides, of logits of a few units.
TOLERANCE = 1e-4


def in_files(folder):
    """Every tensor that the index names, from the file that it names; or all of the only file."""
    if (folder / "model.safetensors").is_file():
        file = safe_open(folder / "model.safetensors", "pt")
        return {tensor: file.get_tensor(tensor) for tensor in file.keys()}
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = {name: safe_open(folder / name, "pt") for name in set(index["weight_map"].values())}
    assert len(files) == 2, sorted(files)
    return {tensor: files[name].get_tensor(tensor) for tensor, name in index["weight_map"].items()}


def main(folder, tokens, nats):
    model, info = ImageGPTForCausalImageModeling.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    for kind in ["missing_keys", "unexpected_keys", "mismatched_keys"]:
        assert not info[kind], (kind, info[kind])

    expected, got = in_files(folder), model.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), f"{name} differs"

    # Each token from the start of the sequence and the tokens before it.
    nats = np.load(nats)
    tokens = torch.from_numpy(np.load(tokens)[: len(nats)].astype(np.int64)).reshape(len(nats), -1)
    start = torch.full((len(nats), 1), model.config.vocab_size - 1)
    with torch.no_grad():
        logits = model.eval()(torch.cat([start, tokens[:, :-1]], 1)).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")
    off = (theirs.reshape(nats.shape) - torch.from_numpy(nats)).abs().max().item()
    assert off <= TOLERANCE, f"nats are off by {off}"
    print(
        f"transformers {transformers.__version__}, torch {torch.__version__}: {len(expected)} tensors are equal, "
        f"nats of {tokens.numel()} tokens are off by {off:.1e} at most"
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
