"""What PyTorch takes for the rows of the GPU benchmark that it can do: attention and whole training steps, in bf16.

The benchmark starts it and gives it its rows on stdin (`{"repeats", "graph_ms", "rotated", "rows"}`); a line of JSON on
stdout for each time says whose it is: `{"key", "name", "us": [...]}`, or `{"key", "name", "not_run"}`. A line without a key is
about all rows. Method as in the benchmark: numbers from N(0, 1), rotated buffers, a CUDA graph of many launches between two events;
a result that is not what f64 gives has no time.
"""

import contextlib
import json
import math
import re
import sys
from pathlib import Path

ATTENTION = re.compile(r"(\d+) images, (\d+) tokens, (\d+) heads, (causal|full)")
STEP = re.compile(r"(\d+) images, (\d+) tokens")


def say(**line):
    print(json.dumps(line), flush=True)


class Timer:
    """Times of calls, as parts of a CUDA graph."""

    def __init__(self, torch, request):
        self.torch, self.request = torch, request
        self.stream = torch.cuda.Stream()

    def sets(self, size):
        return min(max(math.ceil(self.request["rotated"] / size), 2), 64)

    def elapsed(self, work):
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(self.stream)
        work()
        end.record(self.stream)
        end.synchronize()
        return start.elapsed_time(end)

    def graph(self, call, sets):
        """Microseconds of each repeat of `call(set)`, which has run on this stream before."""
        torch = self.torch
        with torch.cuda.stream(self.stream):
            for index in range(sets):
                call(index)
            ms = self.elapsed(lambda: [call(index) for index in range(sets)]) / sets
        launches = min(max(math.ceil(self.request["graph_ms"] / max(ms, 1e-4)), 2), 4000)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            for index in range(launches):
                call(index % sets)
        with torch.cuda.stream(self.stream):
            graph.replay()
            return [self.elapsed(graph.replay) * 1e3 / launches for _ in range(self.request["repeats"])]


def backends(torch):
    """Name and function of q, k, v `[B, H, T, D]` and whether the mask is causal, with the context that chooses it."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def sdpa(q, k, v, causal):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    for backend in ("FLASH_ATTENTION", "CUDNN_ATTENTION"):
        if hasattr(SDPBackend, backend):
            context = lambda backend=backend: sdpa_kernel(getattr(SDPBackend, backend))
            yield f"torch SDPA {backend.split('_')[0].lower()}", sdpa, context

    # FlashAttention has tokens before heads.
    for module, name in (("flash_attn_interface", "FlashAttention 3"), ("flash_attn", "FlashAttention 2")):
        try:
            function = __import__(module).flash_attn_func
        except Exception as error:
            say(name=name, not_run=f"{type(error).__name__}: {error}")
            continue

        def flash(q, k, v, causal, function=function):
            out = function(*(x.transpose(1, 2) for x in (q, k, v)), causal=causal)
            return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)

        yield name, flash, contextlib.nullcontext


def exact(torch, qkv, dy, causal):
    """Output and gradient of the last head of the last image in f64."""
    q, k, v = (x[-1, -1].double().detach().requires_grad_() for x in qkv)
    scores = q @ k.T / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
    out = scores.softmax(-1) @ v
    return out.detach(), torch.autograd.grad(out, (q, k, v), dy[-1, -1].double())


def error(got, want):
    return ((got.double() - want).abs().max() / want.abs().max()).item()


def attention(torch, timer, rows):
    shapes = {}
    for row in rows:
        shapes.setdefault((row["model"], row["shape"]), []).append(row["op"])
    for (model, shape), ops in shapes.items():
        images, tokens, heads, mask = ATTENTION.fullmatch(shape).groups()
        size = (int(images), int(heads), int(tokens), int(model.removeprefix("D ")))
        causal = mask == "causal"
        sets = timer.sets(8 * math.prod(size))
        normal = lambda: torch.randn(size, device="cuda", dtype=torch.bfloat16)
        data = [[normal().requires_grad_() for _ in range(3)] + [normal()] for _ in range(sets)]
        want, gradients = exact(torch, data[0][:3], data[0][3], causal)
        # What follows runs on another stream.
        torch.cuda.synchronize()
        for name, function, context in backends(torch):
            for op in ops:
                key = f"{op} | {model} | {shape}"
                try:
                    with context():
                        us = attend(torch, timer, function, data, causal, op, want, gradients)
                    say(key=key, name=name, us=us)
                except Exception as failure:
                    say(key=key, name=name, not_run=f"{type(failure).__name__}: {failure}".split("\n")[0][:200])


def attend(torch, timer, function, data, causal, op, want, gradients):
    """Times of a function's forward or backward, whose result is right."""
    with torch.cuda.stream(timer.stream):
        outs = [function(*qkv, causal) for *qkv, _ in data]
        backward = lambda index: torch.autograd.grad(outs[index], data[index][:3], data[index][3], retain_graph=True)
        worst = error(outs[0][-1, -1], want)
        if op == "attention backward":
            worst = max(error(got[-1, -1], exact) for got, exact in zip(backward(0), gradients))
    if not worst <= 6 / 256:
        raise ArithmeticError(f"WRONG: error {worst:.1e}")
    if op == "attention backward":
        return timer.graph(backward, len(data))
    with torch.no_grad():
        return timer.graph(lambda index: function(*data[index][:3], causal), len(data))


def steps(torch, timer, rows):
    """Compiled steps of the model of torch_step.py: autocast to bf16, fused Adam."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import torch_step

    for row in rows:
        images, tokens = map(int, STEP.fullmatch(row["shape"]).groups())
        key, name = f"{row['op']} | {row['model']} | {row['shape']}", "torch.compile"
        try:
            layers, width, heads = {"S": (24, 512, 8), "M": (36, 1024, 8), "L": (48, 1536, 16)}[row["model"]]
            say(key=key, name=name, us=train(torch, torch_step.ImageGpt(layers, width, heads), images, tokens, timer))
        except Exception as failure:
            say(key=key, name=name, not_run=f"{type(failure).__name__}: {failure}".split("\n")[0][:200])
        torch.cuda.empty_cache()


def train(torch, model, images, tokens, timer):
    model = model.cuda()
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
    compiled = torch.compile(model)
    targets = torch.randint(0, 512, (images, tokens), device="cuda")
    inputs = torch.cat([torch.full_like(targets[:, :1], 512), targets[:, :-1]], 1)
    torch.cuda.synchronize()

    def step():
        adam.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = compiled(inputs, targets)
        loss.backward()
        adam.step()
        return loss

    with torch.cuda.stream(timer.stream):
        first = [step() for _ in range(5)][0].item()
        us = [timer.elapsed(lambda: [step() for _ in range(4)]) * 1e3 / 4 for _ in range(timer.request["repeats"])]
        last = step().item()
    if not last < first:
        raise ArithmeticError(f"WRONG: the loss went from {first} to {last}")
    return us


def main():
    request = json.load(sys.stdin)
    try:
        import torch
    except Exception as failure:
        say(name="PyTorch", not_run=f"{type(failure).__name__}: {failure}")
        return
    if not torch.cuda.is_available():
        say(name="PyTorch", not_run=f"PyTorch {torch.__version__} finds no CUDA device")
        return
    say(name="PyTorch", version=torch.__version__)
    timer = Timer(torch, request)
    rows = request["rows"]
    attention(torch, timer, [row for row in rows if row["op"] in ("attention forward", "attention backward")])
    steps(torch, timer, [row for row in rows if row["op"] == "training step"])


if __name__ == "__main__":
    main()
