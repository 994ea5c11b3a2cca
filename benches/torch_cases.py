"""The cases of `niwaki bench` for PyTorch and scikit-learn: the same work under the same names, one JSON line a case.

    OMP_NUM_THREADS=2 python benches/torch_cases.py [--filter PREFIX] [--list]

The measuring rule is that of niwaki: two runs that do not count, then at least five, for a second or two, at most 300;
the large cases three, and fewer where that takes more than ten seconds. Names that end in `_cl` are variants with
PyTorch's channels-last layout.
"""

import argparse
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable

# Before PyTorch is loaded: it looks at these once.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

import numpy
import torch
import torch.fx.experimental.optimization
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch_networks import NETWORKS

WARM_UPS = 2
MOST = 300
# Seconds after which no run is begun but the first: the same for those that do not count.
PATIENCE = 10.0
CHANNELS_LAST = "_cl"
LAYOUTS = {"": torch.contiguous_format, CHANNELS_LAST: torch.channels_last}


def runs(step, least, most, budget):
    """The time of each run, and what the last one gave."""
    times, start = [], time.perf_counter()
    while True:
        # Nothing of the run before is in memory.
        result = None
        clock = time.perf_counter()
        result = step()
        end = time.perf_counter()
        times.append(end - clock)
        wanted = len(times) < least or (end - start < budget and len(times) < most)
        if not wanted or end - start > PATIENCE:
            return times, result


@dataclasses.dataclass
class Case:
    """Some work under a name; `prepare` makes it ready and gives what does it once."""

    name: str
    prepare: Callable
    items: float | None = None
    # Seconds, and runs, at least.
    budget: float = 1.0
    least: int = 5

    def measure(self):
        """The median and the least time in milliseconds, as a line of the answer."""
        step = self.prepare()
        runs(step, WARM_UPS, WARM_UPS, 0)
        times, result = runs(step, self.least, MOST, self.budget)
        times.sort()
        median = times[len(times) // 2]
        items_per_s = self.items / median if self.items else None
        line = {"name": self.name, "ms": 1e3 * median, "min": 1e3 * times[0], "items_per_s": items_per_s}
        return line | result if isinstance(result, dict) else line


def machine():
    def copy():
        source, target = torch.ones(100_000_000), torch.empty(100_000_000)
        return lambda: target.copy_(source)

    yield Case("copy_100m", copy, 8e8)


def matmuls():
    for m, k, n in [(1024, 1024, 1024), (2048, 2048, 2048), (128, 784, 300), (128, 300, 100), (64, 128, 512)]:

        def product(m=m, k=k, n=n):
            a, b = torch.randn(m, k), torch.randn(k, n)
            return lambda: torch.mm(a, b)

        yield Case(f"matmul_{m}x{k}x{n}", product, 2 * m * k * n)


# Name, batch, channels in and out, height = width, kernel, stride, padding, groups.
CONVS = [
    ("3_16_at32", 128, 3, 16, 32, 3, 1, 1, 1),
    ("16_16_at32", 128, 16, 16, 32, 3, 1, 1, 1),
    ("16_32_s2", 128, 16, 32, 32, 3, 2, 1, 1),
    ("32_32_at16", 128, 32, 32, 16, 3, 1, 1, 1),
    ("64_64_at8", 128, 64, 64, 8, 3, 1, 1, 1),
    ("64_64_at56", 8, 64, 64, 56, 3, 1, 1, 1),
    ("128_128_at28", 8, 128, 128, 28, 3, 1, 1, 1),
    ("256_256_at14", 8, 256, 256, 14, 3, 1, 1, 1),
    ("1x1_64_256_at28", 8, 64, 256, 28, 1, 1, 0, 1),
    ("dw32_at16", 128, 32, 32, 16, 3, 1, 1, 32),
    ("dw64_at56", 8, 64, 64, 56, 3, 1, 1, 64),
    ("lenet1", 128, 1, 6, 28, 5, 1, 2, 1),
    ("lenet2", 128, 6, 16, 14, 5, 1, 0, 1),
]


def convs():
    for name, batch, inner, outer, size, kernel, stride, padding, groups in CONVS:
        for suffix, layout in LAYOUTS.items():
            shape = (batch, inner, size, size)

            def layer(inner=inner, outer=outer, kernel=kernel, more=(stride, padding, 1, groups), layout=layout):
                return nn.Conv2d(inner, outer, kernel, *more, bias=False).to(memory_format=layout)

            def forward(layer=layer, shape=shape, layout=layout):
                conv, x = layer(), torch.randn(shape).contiguous(memory_format=layout)

                def step():
                    with torch.no_grad():
                        conv(x)

                return step

            def both(layer=layer, shape=shape, layout=layout):
                conv, x = layer(), torch.randn(shape).contiguous(memory_format=layout)
                # Nobody asks for the gradient at a network's input.
                x.requires_grad_(shape[1] > 3)
                with torch.no_grad():
                    dy = torch.randn_like(conv(x))

                def step():
                    conv.weight.grad = x.grad = None
                    conv(x).backward(dy)

                return step

            yield Case(f"conv_fwd_{name}{suffix}", forward, batch)
            yield Case(f"conv_fwd_bwd_{name}{suffix}", both, batch)


def networks():
    for name, (build, shape) in NETWORKS.items():
        for suffix, layout in LAYOUTS.items():
            if suffix and name != "resnet20":
                continue

            def made(build=build, shape=shape, layout=layout, pruned=0.0):
                model, x = build(), torch.randn(shape)
                if pruned:
                    weights = [(m, "weight") for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
                    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=pruned)
                    for module, parameter in weights:
                        prune.remove(module, parameter)
                if len(shape) == 4:
                    model, x = model.to(memory_format=layout), x.contiguous(memory_format=layout)
                return model, x

            def train(made=made):
                model, x = made()
                y = torch.randint(0, 10, (x.shape[0],))
                optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

                def step():
                    optimizer.zero_grad(set_to_none=True)
                    F.cross_entropy(model(x), y).backward()
                    optimizer.step()

                return step

            def infer(made=made, folds=name == "resnet20", pruned=0.0):
                model, x = made(pruned=pruned)
                model.eval()
                if folds:  # batch normalisations are worked into the convolutions, as niwaki does
                    model = torch.fx.experimental.optimization.fuse(model)

                def step():
                    with torch.inference_mode():
                        model(x)

                return step

            yield Case(f"train_{name}{suffix}", train, shape[0], budget=2.0)
            yield Case(f"infer_{name}{suffix}", infer, shape[0])
            if len(shape) != 3:
                yield Case(f"pruned90_{name}{suffix}", functools.partial(infer, pruned=0.9), shape[0])


def compression():
    numbers, pruned = 100_000_000, 80_000_000

    def kth():
        a = torch.randn(numbers)
        return lambda: torch.kthvalue(a.abs(), pruned)

    def pruning():
        a, out = torch.randn(numbers), torch.empty(numbers)
        return lambda: torch.mul(a, a.abs() > torch.kthvalue(a.abs(), pruned)[0], out=out)

    def pruning_fresh():
        a = torch.randn(numbers)
        return lambda: a * (a.abs() > torch.kthvalue(a.abs(), pruned)[0])

    def half():
        a, out = torch.randn(numbers), torch.empty(numbers, dtype=torch.float16)
        return lambda: out.copy_(a)

    yield Case("kth_100m", kth, numbers, budget=0, least=3)
    yield Case("prune_100m", pruning, numbers, budget=0, least=3)
    yield Case("prune_fresh_100m", pruning_fresh, numbers, budget=0, least=3)
    yield Case("f16_100m_reused", half, numbers, budget=2)
    yield Case("kmeans_10m", kmeans, 10_000_000, budget=0, least=3)
    for rows in (1024, 4096):

        def svd(rows=rows):
            a = torch.randn(rows, 1024)
            return lambda: torch.linalg.svd(a, full_matrices=False)

        def randomised(rows=rows):
            a = torch.randn(rows, 1024)
            return lambda: torch.svd_lowrank(a, q=64, niter=2)

        yield Case(f"svd_{rows}x1024", svd, budget=2, least=3)
        yield Case(f"rsvd64_{rows}x1024", randomised)


def kmeans():
    """16 clusters of numbers from the standard normal distribution, from centroids that are spread evenly."""
    from sklearn.cluster import KMeans

    values = numpy.random.default_rng(1).standard_normal((10_000_000, 1), dtype=numpy.float32)
    start = numpy.linspace(values.min(), values.max(), 16, dtype=numpy.float32).reshape(16, 1)

    def step():
        found = KMeans(n_clusters=16, n_init=1, init=start).fit(values)
        return {"mse": found.inertia_ / len(values)}

    return step


def cases(prefixes=()):
    """All cases, or those whose names begin with one of the prefixes."""
    families = (machine, matmuls, convs, networks, compression)
    wanted = tuple(prefixes) or ("",)
    return [case for family in families for case in family() if case.name.startswith(wanted)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filter", action="append", default=[], metavar="PREFIX", help="cases whose names begin so")
    parser.add_argument("--list", action="store_true", help="print the names and measure nothing")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for case in cases(args.filter):
        print(case.name if args.list else json.dumps(case.measure()), flush=True)


if __name__ == "__main__":
    main()
