"""The peers of `cargo xtask bench`, a function for each row: python3 peers.py ROW

A function prepares its row and returns what is repeated. The process says `ready` and answers every line that it reads with the
seconds of one sample, as worker.rs does. Models and their sizes are those of rows/model.rs; all is f32, on all cores.
"""

import math
import os
import sys
import tempfile
import time

COLOURS, TOKENS = 512, 1024
TINY, SMALL, S = (4, 128, 4), (8, 256, 8), (24, 512, 8)  # layers, width, heads


def image_gpt(layers, width, heads):
    """The model, on all cores."""
    import torch

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from torch_step import ImageGpt

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    return ImageGpt(layers, width, heads)


def batch(images):
    """Inputs and targets: the start-of-sequence token, then all tokens but the last."""
    import torch

    targets = torch.randint(0, COLOURS, (images, TOKENS))
    return torch.cat([torch.full_like(targets[:, :1], COLOURS), targets[:, :-1]], 1), targets


def step(size, images):
    import torch

    model = image_gpt(*size)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
    inputs, targets = batch(images)

    def work():
        adam.zero_grad(set_to_none=True)
        model(inputs, targets).backward()
        adam.step()

    return work


def update():
    import torch

    torch.set_num_threads(os.cpu_count())
    parameters = [torch.nn.Parameter(torch.full((1024, 1024), 0.5)) for _ in range(24)]
    for parameter in parameters:
        parameter.grad = torch.full((1024, 1024), 1e-3)
    adam = torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)

    def work():
        torch.nn.utils.clip_grad_norm_(parameters, 1e9)
        adam.step()

    return work


def evaluation():
    import torch

    model, (inputs, targets) = image_gpt(*SMALL), batch(8)

    def work():
        with torch.inference_mode():
            model(inputs, targets, reduction="none")

    return work


def features():
    import torch

    model, (inputs, _) = image_gpt(*SMALL), batch(8)

    def work():
        with torch.inference_mode():
            for normed in model.depths(inputs):
                normed.mean(1)

    return work


def draw(size, images):
    import torch
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling
    from transformers.cache_utils import DynamicCache

    layers, width, heads = size
    torch.set_num_threads(os.cpu_count())
    config = ImageGPTConfig(
        vocab_size=COLOURS + 1, n_positions=TOKENS, n_embd=width, n_layer=layers, n_head=heads, tie_word_embeddings=False
    )
    model = ImageGPTForCausalImageModeling(config).eval()
    caches = []
    with torch.inference_mode():
        for place in (0, 504, 1008):
            cache = DynamicCache()
            if place:
                # One prompt for all: its keys and values once, then for each image.
                model(input_ids=torch.randint(0, COLOURS, (1, place)), past_key_values=cache, use_cache=True)
                cache.batch_repeat_interleave(images)
            caches.append((place, cache))
    ids = torch.full((images, 1), COLOURS)

    def work():
        with torch.inference_mode():
            for index, (place, cache) in enumerate(caches):
                position = torch.tensor([[place]])
                output = model(input_ids=ids, past_key_values=cache, use_cache=True, position_ids=position)
                torch.multinomial(torch.softmax(output.logits[:, -1], -1), 1)
                # Back to where it was, without the one that came; a cache of nothing is a new one.
                if place:
                    cache.crop(-1)
                else:
                    caches[index] = (place, DynamicCache())

    return work


def noise(seed, count):
    """Numbers in [-1, 1): a linear congruential generator, as in rows/probe.rs."""
    import numpy as np

    # All states at once: state_n = a^n · seed + c · (a^n - 1) / (a - 1), modulo 2^32.
    factors = np.cumprod(np.full(count, 1664525, dtype=np.uint32), dtype=np.uint32)
    sums = np.cumsum(np.concatenate([[1], factors[:-1]]).astype(np.uint32), dtype=np.uint32)
    states = factors * np.uint32(seed) + sums * np.uint32(1013904223)
    return ((states >> 8).astype(np.float32) / np.float32(1 << 23)) - np.float32(1)


def probe():
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    rows, width, classes = 10_000, 512, 10
    labels = np.arange(rows) * 7919 % classes
    centres = noise(7, classes * width).reshape(classes, width)
    x = np.float32(0.1) * centres[labels] + noise(1, rows * width).reshape(rows, width)

    def work():
        # Its tolerance is on the largest element of the gradient of the mean loss.
        fit = LogisticRegression(C=0.01, tol=1e-6, max_iter=1000).fit(x, labels)
        assert fit.n_iter_[0] < 1000

    return work


def kmeans():
    import numpy as np
    from sklearn.cluster import KMeans

    image, y, x = np.meshgrid(np.arange(256, dtype=np.uint32), np.arange(32, dtype=np.uint32), np.arange(32, dtype=np.uint32), indexing="ij")
    hashed = image * np.uint32(2654435761) + (y * 40503 + x * 9973)
    channels = [
        (image * np.uint32(97 + 61 * c)) % 160 + (x * (c + 1) + y * (3 - c)) % 64 + (hashed >> (8 * c)) % 32
        for c in range(3)
    ]
    pixels = np.stack(channels, -1).reshape(-1, 3).astype(np.float32)

    def work():
        # One iteration of the seeding as ours, and as many of Lloyd's.
        KMeans(512, init="k-means++", n_init=1, max_iter=10, tol=0.0, random_state=0, algorithm="lloyd").fit(pixels)

    return work


def shrink(path):
    """A training image of 32 × 32: a random square part of it, mirrored or not.

    All of it is decoded, as by torchvision's data sets: `Image.draft`, which decodes fewer coefficients, gives other pixels.
    """
    import random

    from PIL import Image

    with Image.open(path) as image:
        side = min(image.size)
        left, top = random.randint(0, image.width - side), random.randint(0, image.height - side)
        small = image.convert("RGB").resize((32, 32), Image.BILINEAR, (left, top, left + side, top + side))
        return (small.transpose(Image.FLIP_LEFT_RIGHT) if random.random() < 0.5 else small).tobytes()


def loading():
    from concurrent.futures import ThreadPoolExecutor

    folder = os.path.join(tempfile.gettempdir(), "igpt-bench-photographs")
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    # Pillow lets go of the interpreter's lock while it decodes and shrinks.
    pool = ThreadPoolExecutor(os.cpu_count())
    return lambda: list(pool.map(shrink, paths))


def gemm():
    import torch

    torch.set_num_threads(os.cpu_count())
    side = 1536
    a, out = torch.full((side, side), 0.5), torch.empty(side, side)
    return lambda: torch.mm(a, a, out=out)


ROWS = {
    "step-tiny": lambda: step(TINY, 4),
    "step-small": lambda: step(SMALL, 4),
    "step-s": lambda: step(S, 1),
    "update": update,
    "evaluation": evaluation,
    "features": features,
    "probe": probe,
    "kmeans": kmeans,
    "loading": loading,
    "draw-s-16": lambda: draw(S, 16),
    "draw-s-16-bf16": lambda: draw(S, 16),
    "draw-s-1": lambda: draw(S, 1),
    "draw-s-1-bf16": lambda: draw(S, 1),
    "draw-tiny-16": lambda: draw(TINY, 16),
    "gemm": gemm,
}


def main():
    work = ROWS[sys.argv[1]]()
    work()
    start = time.perf_counter()
    work()
    repeats = max(1, math.ceil(0.3 / (time.perf_counter() - start)))
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        print((time.perf_counter() - start) / repeats, flush=True)


if __name__ == "__main__":
    main()
