"""The training step of benches/step.rs in PyTorch, to stand beside it: python3 benches/torch_step.py tiny|small|s

One step is zero_grad, forward, mean cross-entropy over all 1,024 positions, backward and Adam, in f32 on all cores. Needs
PyTorch 2.4 or later. The model is that of the other benchmarks, too.
"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

COLOURS, TOKENS = 512, 1024
SIZES = {"tiny": (4, 128, 4, 4), "small": (8, 256, 8, 4), "s": (24, 512, 8, 1)}  # layers, width, heads, images


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.gain_1, self.gain_2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mixed = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x, normed):
        images, tokens, width = x.shape
        heads = self.qkv(normed).view(images, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.mixed(attended.transpose(1, 2).reshape(images, tokens, width))
        hidden = self.up(F.rms_norm(x, (width,), self.gain_2, 1e-5))
        return x + self.down(hidden * torch.sigmoid(1.702 * hidden))


class ImageGpt(nn.Module):
    def __init__(self, layers, width, heads):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(COLOURS + 1, width), nn.Embedding(TOKENS, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.gain = nn.Parameter(torch.ones(width))
        self.head = nn.Linear(width, COLOURS, bias=False)

    def forward(self, inputs, targets, reduction="mean"):
        """The cross-entropy."""
        *_, normed = self.depths(inputs)
        return F.cross_entropy(self.head(normed).flatten(0, 1), targets.flatten(), reduction=reduction)

    def depths(self, inputs):
        """What each block sees, normalised; then the output of the last norm."""
        x = self.wte(inputs) + self.wpe.weight
        for block in self.blocks:
            normed = F.rms_norm(x, x.shape[-1:], block.gain_1, 1e-5)
            yield normed
            x = block(x, normed)
        yield F.rms_norm(x, x.shape[-1:], self.gain, 1e-5)


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "tiny"
    layers, width, heads, images = SIZES[name]
    torch.manual_seed(0)
    model = ImageGpt(layers, width, heads)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
    targets = torch.randint(0, COLOURS, (images, TOKENS))
    inputs = torch.cat([torch.full_like(targets[:, :1], COLOURS), targets[:, :-1]], 1)
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        adam.zero_grad(set_to_none=True)
        model(inputs, targets).backward()
        adam.step()
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[2:])
    print(f"{name}: step {step * 1e3:.1f} ms, {images * TOKENS / step:.0f} tokens/s, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
