#!/usr/bin/env python3
"""Kills a server and the processes of its jobs at random moments, and looks at what the jobs end with.

    python3 tests/faults/kills.py --niwaki target/release/niwaki [--seed N] [--kills 20] [--jobs 200] [--epochs 30]

1. One training of LeNet-5 that nothing disturbs, and then the same one with so many kills, of the job's process and of the
   whole server in turn. Both models must be the same bytes.
2. So many short jobs while processes and servers are killed at random. Each must end exactly once, as SUCCEEDED, with the
   bytes of an undisturbed job of the same seed.

The data are those of NIWAKI_TEST_DATA/mnist, or else the digits that `niwaki demo` draws. It needs Linux, nothing but
Python, and some minutes. The seed is printed: it decides what is killed and how long is waited, though not what the
machine does meanwhile. Exit code 1: something was not as promised.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

# Nothing takes this long that still goes on, in seconds.
LIMIT = 900
TERMINAL = ("STATE_SUCCEEDED", "STATE_FAILED", "STATE_CANCELLED")


class Breach(Exception):
    """Something is not as promised."""


def say(*words):
    print(f"{time.strftime('%H:%M:%S')}", *words, flush=True)


def model_digest(job):
    """The digest of the model that a job ended with."""
    if job["state"] != "STATE_SUCCEEDED":
        raise Breach(f"{job['name']} ended as {job['state']}: {job.get('error')}")
    files = {file["file_name"]: file["digest"] for file in job["result"]["artifacts"]}
    return files["model.safetensors"]


class Server:
    """A server that is started again on the same data after every kill."""

    def __init__(self, niwaki, folder, workers):
        self.niwaki, self.folder, self.workers = niwaki, folder, workers
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = open(folder / "server.log", "ab")
        self.start()

    def start(self):
        command = [self.niwaki, "serve", "--listen", self.address, "--data", self.folder / "data",
                   "--workers", str(self.workers), "--set", "jobs.checkpoint_seconds=1"]
        # Short jobs are killed more often than they are saved.
        command += ["--set", "jobs.max_losses=1000"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        if not self.process.stdout.readline():
            raise Breach("the server does not start; see server.log")

    def stop(self):
        self.process.terminate()
        if self.process.wait(timeout=30) != 0:
            raise Breach(f"the server stopped with exit code {self.process.returncode}")

    def kill(self):
        """Kills the server; the processes of its jobs must not outlive it."""
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + 2
        while children := self.children():
            if time.monotonic() > deadline:
                raise Breach(f"processes {children} outlive their server")
            time.sleep(0.01)
        self.start()

    def children(self):
        """The processes of jobs in this server's folder."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                words = pathlib.Path("/proc", entry, "cmdline").read_bytes().split(b"\0") if entry.isdigit() else []
            except OSError:
                continue
            if b"job-child" in words and any(word.startswith(str(self.folder).encode()) for word in words):
                found.append(int(entry))
        return found

    def kill_child(self, rng):
        """Kills the process of a job, once there is one; whether there was."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if children := self.children():
                try:
                    os.kill(rng.choice(children), signal.SIGKILL)
                    return True
                except ProcessLookupError:
                    pass
            time.sleep(0.005)
        return False

    def cli(self, *words):
        """What a command answers."""
        command = [self.niwaki, "--server", f"http://{self.address}", "--json", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT)
        if done.returncode != 0:
            raise Breach(f"{' '.join(map(str, words))}: {done.stdout.decode()}{done.stderr.decode()}")
        return json.loads(done.stdout)

    def create(self, dataset, recipe, name):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(recipe))
        return self.cli("jobs", "create", path, "--dataset", dataset)["name"]

    def job(self, name):
        return self.cli("jobs", "get", name)

    def ended(self, name):
        deadline = time.monotonic() + LIMIT
        while (job := self.job(name))["state"] not in TERMINAL:
            if time.monotonic() > deadline:
                raise Breach(f"{name} does not end: {job}")
            time.sleep(0.05)
        return job


def lenet(epochs, samples, seed):
    train = {"epochs": epochs, "batch_size": 64, "sgd": {"momentum": 0.9}, "learning_rate": 0.02, "cosine": {},
             "ema": {"decay": 0.99}}
    return {
        "version": 1, "name": "lenet5", "seed": seed,
        "data": {"transforms": [{"scale": {"factor": 0.00392156862745098}}], "split": {"train_samples": samples}},
        "start": {"preset": "lenet5", "train": train},
        "steps": [{"prune_weights": {"sparsity": 0.5}}, {"train": {**train, "epochs": max(1, epochs // 4)}}],
    }


def short(seed):
    """A second or less."""
    return {
        "version": 1, "name": "short", "seed": seed,
        "data": {"transforms": [{"scale": {"factor": 0.00392156862745098}}], "split": {"train_samples": 600}},
        "start": {"preset": "mlp:input=1x28x28,hidden=16,classes=10,dropout=0.1",
                  "train": {"epochs": 3, "batch_size": 32, "adamw": {}, "learning_rate": 0.002}},
        "steps": [{"prune_weights": {"sparsity": 0.5}}, {"quantize": {"format": "FORMAT_F16"}}],
    }


def data(niwaki, folder):
    given = os.environ.get("NIWAKI_TEST_DATA")
    if given and (pathlib.Path(given) / "mnist").is_dir():
        return pathlib.Path(given) / "mnist"
    say("niwaki demo draws the data")
    subprocess.run([niwaki, "demo", "--out", folder / "demo"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=LIMIT)
    return folder / "demo" / "data"


def share_done(job):
    """About how much of a job is done, from 0 to 1: its trainings are four fifths and one fifth of it."""
    progress = job.get("progress") or {}
    done = int(progress.get("done", 0)) / max(1, int(progress.get("total", 0)))
    return {"start": 0.8 * done, "prune-weights": 0.8, "train": 0.8 + 0.2 * done, "measure": 1}.get(progress.get("phase"), 0)


def one_long_job(server, dataset, args, rng):
    recipe = lenet(args.epochs, args.samples, args.seed)
    begun = time.monotonic()
    expected = model_digest(server.ended(server.create(dataset, recipe, "long")))
    seconds = time.monotonic() - begun
    say(f"undisturbed: {seconds:.1f} s, {expected}")
    job = server.create(dataset, recipe, "long")
    begun, done = time.monotonic(), 0
    for kill in range(1, args.kills + 1):
        # Such that what is left is enough for the kills that are left. A job that was just begun anew says nothing yet.
        done = max(done, share_done(server.job(job)))
        left = seconds * (1 - done)
        wait = rng.uniform(0, 2 * left / (args.kills + 2 - kill))
        time.sleep(wait)
        state = server.job(job)
        if state["state"] in TERMINAL:
            raise Breach(f"the job ended before kill {kill}: --epochs must be more")
        if kill % 2:
            what = "process"
            if not server.kill_child(rng):
                raise Breach(f"no process to kill: {server.job(job)}")
        else:
            what = "server"
            server.kill()
        progress = state.get("progress") or {}
        say(f"kill {kill:2}: {what:7} after {wait:5.2f} s, attempt {state.get('attempt')}, at",
            f"{progress.get('phase', 'the beginning')} {progress.get('done', 0)} of {progress.get('total', 0)}")
    ended = server.ended(job)
    found = model_digest(ended)
    say(f"disturbed: {time.monotonic() - begun:.1f} s, attempt {ended['attempt']}, {found}")
    if found != expected:
        raise Breach("the models differ")


def many_short_jobs(server, dataset, args, rng):
    seeds = 10
    begun = time.monotonic()
    expected = {seed: model_digest(server.ended(server.create(dataset, short(seed), f"short-{seed}")))
                for seed in range(seeds)}
    if len(set(expected.values())) != seeds:
        raise Breach("other seeds give the same model: there is nothing to see here")
    # A job is killed about once on average: killed much more often, it would never come to its end.
    pause = args.pause or (time.monotonic() - begun) / seeds
    say(f"{seeds} undisturbed jobs; a kill every {pause:.2f} s on average")
    jobs = {server.create(dataset, short(place % seeds), f"short-{place % seeds}"): place % seeds
            for place in range(args.jobs)}
    say(f"{len(jobs)} jobs are queued")
    ends, kills, begun = {}, {"process": 0, "server": 0}, time.monotonic()
    while len(ends) < len(jobs):
        if time.monotonic() - begun > 4 * LIMIT:
            raise Breach(f"{len(jobs) - len(ends)} jobs do not end")
        time.sleep(rng.uniform(0, 2 * pause))
        if rng.random() < 0.8:
            kills["process"] += server.kill_child(rng)
        else:
            server.kill()
            kills["server"] += 1
        for name in [name for name in jobs if name not in ends]:
            job = server.job(name)
            if job["state"] not in TERMINAL:
                # The oldest are first: those behind have not ended either, but for what other workers did.
                break
            ends[name] = job
    attempts = [job["attempt"] for job in ends.values()]
    say(f"{len(ends)} jobs ended in {time.monotonic() - begun:.1f} s, with {kills['process']} processes and",
        f"{kills['server']} servers killed; {sum(a > 1 for a in attempts)} jobs were begun anew, one {max(attempts)} times")
    if kills["process"] + kills["server"] < args.jobs // 4:
        raise Breach("hardly anything was killed: --pause must be less")
    for name, first in ends.items():
        if (digest := model_digest(first)) != expected[jobs[name]]:
            raise Breach(f"{name} of seed {jobs[name]} ended with {digest}, not {expected[jobs[name]]}")
        if server.job(name) != first:
            raise Breach(f"{name} has changed after its end: {first} {server.job(name)}")
    listed = server.cli("jobs", "ls")
    missing = set(jobs) - {job["name"] for job in listed}
    if missing:
        raise Breach(f"the list lacks {missing}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--niwaki", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--kills", type=int, default=20, help="of the long job; 0: leave it out")
    parser.add_argument("--epochs", type=int, default=30, help="of the long job")
    parser.add_argument("--samples", type=int, default=5000, help="that the long job trains on")
    parser.add_argument("--jobs", type=int, default=200, help="short ones; 0: leave them out")
    parser.add_argument("--pause", type=float, help="seconds between kills of short jobs; else as long as one takes")
    args = parser.parse_args()
    args.niwaki = args.niwaki.resolve()
    rng = random.Random(args.seed)
    say(f"seed {args.seed}")
    with tempfile.TemporaryDirectory(prefix="niwaki-kills-") as scratch:
        folder = pathlib.Path(scratch)
        server = Server(args.niwaki, folder, workers=1)
        try:
            dataset = server.cli("datasets", "put", data(args.niwaki, folder))["name"]
            if args.kills:
                one_long_job(server, dataset, args, rng)
            if args.jobs:
                many_short_jobs(server, dataset, args, rng)
            server.stop()
        except Breach as breach:
            say("BREACH:", breach)
            tail = (folder / "server.log").read_text(errors="replace").splitlines()[-30:]
            print(*tail, sep="\n", file=sys.stderr)
            return 1
        finally:
            server.process.kill()
    say("as promised")
    return 0


if __name__ == "__main__":
    sys.exit(main())
