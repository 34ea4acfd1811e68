"""Drawing from nothing by Hugging Face's cached generation, to stand beside benches/draw.rs: python3 benches/torch_draw.py s|tiny IMAGES

Random weights, f32, all cores. A step is one forward pass of one position with the cache and the draw of its token. Timed are some
steps at three places of the image, and what an image takes is the mean over them. Needs PyTorch and transformers.
"""

import statistics
import sys
import time

import torch
from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling
from transformers.cache_utils import DynamicCache

TOKENS = 1024
SIZES = {"tiny": (4, 128, 4), "s": (24, 512, 8)}  # layers, width, heads
PLACES, STEPS = (0, 504, 1008), 8  # 1008 + 2 + 8 positions are an image's


@torch.inference_mode()
def main():
    name, images = sys.argv[1], int(sys.argv[2])
    layers, width, heads = SIZES[name]
    config = ImageGPTConfig(
        vocab_size=513, n_positions=TOKENS, n_embd=width, n_layer=layers, n_head=heads, tie_word_embeddings=False
    )
    model = ImageGPTForCausalImageModeling(config).eval()
    times = []
    for place in PLACES:
        cache = DynamicCache()
        if place:
            # One prompt for all: its keys and values once, then for each image.
            prompt = torch.randint(0, 512, (1, place))
            model(input_ids=prompt, past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(images)
        ids = torch.full((images, 1), 512)
        for step in range(STEPS + 2):
            start = time.perf_counter()
            position = torch.tensor([[place + step]])
            output = model(input_ids=ids, past_key_values=cache, use_cache=True, position_ids=position)
            ids = torch.multinomial(torch.softmax(output.logits[:, -1], -1), 1)
            if step >= 2:
                times.append(time.perf_counter() - start)
    windows = [statistics.median(times[i : i + STEPS]) for i in range(0, len(times), STEPS)]
    mean = statistics.mean(windows)
    shown = ", ".join(f"{1e3 * window:.1f}" for window in windows)
    print(f"{name} {images} images: {shown} ms a step at positions {PLACES}; {images / mean:.1f} pixels/s")


main()
