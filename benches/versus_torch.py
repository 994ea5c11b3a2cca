"""Measures niwaki beside PyTorch (and scikit-learn) on this machine: case by case, both sides in turn, in several rounds.

    cargo build --release
    python -m venv target/bench-env
    target/bench-env/bin/pip install --requirement benches/requirements.txt
    target/bench-env/bin/python benches/versus_torch.py --niwaki target/release/niwaki

A ratio is PyTorch's time by niwaki's in the same round: above 1 niwaki is faster. Shown is the median over the rounds, and
the smallest and the largest. Of PyTorch's two layouts the faster one counts. docs/speed.md says what each case is.
"""

import argparse
import json
import math
import os
import statistics
import subprocess

LAYOUTS = {"": "channels first", "_cl": "channels last"}
SUMMED = "conv_fwd_bwd_"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--niwaki", default="target/release/niwaki", metavar="PATH", help="the program")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each side is measured")
    parser.add_argument("--filter", action="append", default=[], metavar="PREFIX", help="cases whose names begin so")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="threads of both sides")
    parser.add_argument("--least", action="store_true", help="compare least times, not medians: for a machine in use")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print a table for documents")
    form.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def niwaki(program, *words):
    """What `niwaki bench` prints."""
    done = subprocess.run([program, "bench", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def ours(program, name):
    """One case on our side."""
    lines = [json.loads(line) for line in niwaki(program, "--filter", name, "--json").splitlines()]
    [found] = [line for line in lines if line["name"] == name]
    return found


class Result:
    """A case and what was measured of it, one entry a round. `time` is which of the times of a line counts."""

    def __init__(self, name, variants, time):
        self.name = name
        self.variants = variants
        self.time = time
        self.ours, self.theirs = [], []

    def measure(self, program):
        self.ours.append(ours(program, self.name))
        if self.variants:
            lines = {suffix: case.measure() for suffix, case in self.variants.items()}
            layout = min(lines, key=lambda suffix: lines[suffix][self.time])
            self.theirs.append(lines[layout] | {"layout": LAYOUTS[layout] if len(lines) > 1 else None})

    def ratios(self):
        return [theirs[self.time] / ours[self.time] for ours, theirs in zip(self.ours, self.theirs)]

    def summary(self):
        """All of it over the rounds so far."""
        found = {"name": self.name, "niwaki_ms": statistics.median(line[self.time] for line in self.ours)}
        for key in ("mse", "executor"):
            if key in self.ours[-1]:
                found[f"niwaki_{key}"] = self.ours[-1][key]
        if self.theirs:
            found["torch_ms"] = statistics.median(line[self.time] for line in self.theirs)
            found["torch_layout"] = statistics.mode(line["layout"] for line in self.theirs)
            if "mse" in self.theirs[-1]:
                found["torch_mse"] = self.theirs[-1]["mse"]
            ratios = self.ratios()
            found["ratio"] = statistics.median(ratios)
            found["ratio_min"], found["ratio_max"] = min(ratios), max(ratios)
        else:
            found["items_per_s"] = statistics.median(line["items_per_s"] for line in self.ours)
        return found


def results(names, cases, time):
    """Our cases with what they are compared with; that there is nothing of ours that the peer lacks is checked here."""
    theirs = {case.name: case for case in cases}
    found = []
    for name in names:
        variants = {suffix: theirs.pop(name + suffix) for suffix in LAYOUTS if name + suffix in theirs}
        if not variants and name != "peak_fma":
            raise SystemExit(f"torch_cases.py has no case {name}")
        found.append(Result(name, variants, time))
    if theirs:
        raise SystemExit(f"niwaki has no case {', '.join(theirs)}")
    return found


def geometric_mean(ratios):
    return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))


def cells(summary):
    """A line of the table."""
    ms = lambda key: f"{summary[key]:.3f}"
    if "ratio" not in summary:
        return [summary["name"], ms("niwaki_ms"), "", "", "", f"{summary['items_per_s'] / 1e9:.1f} G/s"]
    spread = f"{summary['ratio_min']:.2f}..{summary['ratio_max']:.2f}"
    remarks = [summary["torch_layout"]] if summary["torch_layout"] else []
    if "torch_mse" in summary:
        remarks.append(f"mse {summary['niwaki_mse']:.6f}, {summary['torch_mse']:.6f}")
    if "niwaki_executor" in summary:
        remarks.append(summary["niwaki_executor"].split(":")[0])
    return [summary["name"], ms("niwaki_ms"), ms("torch_ms"), f"{summary['ratio']:.2f}", spread, "; ".join(remarks)]


def shown(rows, markdown):
    """The table as text."""
    header = ["case", "niwaki ms", "torch ms", "ratio", "min..max", "remark"]
    if markdown:
        lines = [header, ["---"] + ["---:"] * 4 + ["---"], *([f"`{row[0]}`", *row[1:]] for row in rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    flush = lambda row: [c.ljust(w) if i in (0, 5) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
    return "\n".join("  ".join(flush(row)).rstrip() for row in [header, *rows])


def main():
    args = arguments()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[variable] = str(args.threads)
    # Only now: it looks at the number of threads once.
    import torch
    import torch_cases

    torch.set_num_threads(args.threads)
    filters = [word for prefix in args.filter for word in ("--filter", prefix)]
    names = niwaki(args.niwaki, "--list", *filters).split()
    measured = results(names, torch_cases.cases(args.filter), "min" if args.least else "ms")
    for round_ in range(args.rounds):
        for result in measured:
            result.measure(args.niwaki)
            if not args.json and not args.markdown:
                ratio = f"{result.ratios()[-1]:.2f}" if result.theirs else ""
                print(f"round {round_ + 1}/{args.rounds}  {result.name}  {ratio}", flush=True)
    summaries = [result.summary() for result in measured]
    summed = [summary["ratio"] for summary in summaries if summary["name"].startswith(SUMMED)]
    mean = geometric_mean(summed) if summed else None
    if args.json:
        about = {"threads": args.threads, "rounds": args.rounds, "torch": torch.__version__}
        print(json.dumps(about | {"cases": summaries, f"{SUMMED}geometric_mean": mean}, indent=1))
        return
    print(f"\n{args.threads} threads, {args.rounds} rounds, PyTorch {torch.__version__}\n")
    print(shown([cells(summary) for summary in summaries], args.markdown))
    if mean is not None:
        print(f"\nThe geometric mean of the ratios of {SUMMED}* is {mean:.2f}.")


if __name__ == "__main__":
    main()
