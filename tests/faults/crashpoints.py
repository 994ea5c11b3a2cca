"""Breaks a server at every durable call of a client's whole life, and checks that nothing it had promised was a lie.

    python tests/faults/crashpoints.py                         every point, every mode: hours of nothing else to do
    python tests/faults/crashpoints.py --every 10 --jobs 2     a sample
    python tests/faults/crashpoints.py --mode power --at 37    one point again, its files are kept

Each point is a life of its own (life.py) on a fresh folder: the server runs on a disk (disk.py, shim.c) that at the n-th
durable call kills it, loses power or fails. A new server then opens what is left, the client goes on, and in the end

  I1  what was acknowledged is there       I3  one request_id made one thing, a job ended once
  I2  a name leads to bytes with its digest, or to nothing            I5  the model is that of an undisturbed life
  I6  offsets, revisions, attempts never went back                    I9  nothing is left over
  I10 no answer was INTERNAL or UNKNOWN    I11 on a full disk reads go on       I16 the database is sound

The calls of two lives are not quite the same (progress comes with time), so n is a place, not a name: a failed point says
which call it was.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ["GRPC_VERBOSITY"] = "NONE"

import grpc

from disk import ERRORS, POWER, ROOT, Disk
from life import COME_AGAIN, LIMIT, Broken, Client, Inputs, Life, generate, hold

MODES = ["kill-before", "kill-after", "power", "power-names", "kill-twice", "eio", "enospc", "full"]
# Work that is saved often, and garbage that is collected at once.
SETTINGS = {"NIWAKI_JOBS_CHECKPOINT_SECONDS": "1", "NIWAKI_RETENTION_GARBAGE_SECONDS": "1", "NIWAKI_LOG": "info"}
# So long after a disk was full there is room again, in seconds.
FULL_FOR = 1.0


class Server:
    """A server process on a disk."""

    def __init__(self, program, disk, environment):
        command = [program, "serve", "--listen", "127.0.0.1:0", "--data", disk.data]
        self.log = open(disk.scratch / "log", "a")
        self.process = subprocess.Popen(
            command, env=environment | SETTINGS, stdout=subprocess.PIPE, stderr=self.log, text=True)
        # Empty where it died before it listened.
        self.address = self.process.stdout.readline().strip().removeprefix("http://")

    def stop(self):
        """Ends it as an operator would."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(LIMIT)
        self.process.stdout.close()
        self.log.close()
        return code

    def ended(self):
        """Waits for the end of a server whose disk has killed it."""
        code = self.process.wait(LIMIT)
        self.process.stdout.close()
        self.log.close()
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def client_of(server, api):
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, options) as channel:
        yield Client(channel, api)


def go_away(error, patience):
    """Whether a client may be told this by a server that is killed: that it is away, and on a bad disk to come again."""
    code = error.code()
    if code == grpc.StatusCode.CANCELLED:
        return True
    return code == grpc.StatusCode.UNAVAILABLE or code in patience


class Point:
    """One life with one fault."""

    def __init__(self, setup, mode, at, scratch):
        self.setup, self.mode, self.at = setup, mode, at
        self.disk = Disk(scratch)
        self.life = Life(setup.inputs, f"{mode}-{at}")
        self.servers = []

    def start(self, mode=None, at=0, **more):
        environment = self.disk.environment(mode, at, **more) if mode != "bare" else dict(os.environ)
        server = Server(self.setup.program, self.disk, environment)
        self.servers.append(server)
        return server

    def run(self):
        """The call that was hit, or None if the life ended before."""
        try:
            hit = self.broken_life()
            self.undisturbed_rest()
            return hit
        finally:
            for server in self.servers:
                server.kill()

    def broken_life(self):
        if self.mode in ERRORS or self.mode == "full":
            return self.life_on_a_bad_disk()
        server = self.start("kill-before" if self.mode == "kill-twice" else self.mode, self.at)
        if server.address:
            with client_of(server, self.setup.api) as client:
                try:
                    self.life.live(client)
                    server.process.terminate()
                except grpc.RpcError as error:
                    hold(go_away(error, []), "I10 not what a dying server says", error.code(), error.details())
        code = server.ended()
        hit = self.hit()
        if hit is None:
            hold(code == 0, "the server did not stop in peace", code)
            return None
        hold(code == -signal.SIGKILL, "the server ended in another way", code)
        if self.mode in POWER:
            self.disk.lose_power(self.mode)
        look_over_after_crash(self.disk)
        if self.mode == "kill-twice":
            self.kill_in_recovery()
        return hit

    def kill_in_recovery(self):
        """Kills the server that takes up the pieces, three times, each time a call later."""
        for again in range(1 + self.at % 4, 4 + self.at % 4):
            self.disk.trace.unlink(missing_ok=True)
            server = self.start("kill-before", again)
            if server.address:
                with client_of(server, self.setup.api) as client, contextlib.suppress(grpc.RpcError):
                    self.life.audit(client)
            if self.hit(again) is not None:
                server.ended()
            else:
                # To stop takes durable calls, too.
                code = server.stop()
                hold(code == 0 or self.hit(again) is not None, "the server did not stop in peace", code)

    def life_on_a_bad_disk(self):
        lasting = self.mode == "full"
        server = self.start("enospc" if lasting else self.mode, self.at, lasting=lasting, writes=self.setup.writes)
        self.life.patience = COME_AGAIN
        room = threading.Thread(target=self.make_room, daemon=True)
        if lasting:
            room.start()
        try:
            if server.address:
                with client_of(server, self.setup.api) as client:
                    try:
                        self.life.live(client)
                    except grpc.RpcError as error:
                        # It may have given up, to start anew from what is safe.
                        hold(server.process.poll() is not None and go_away(error, []),
                             "I10 not what a server on a bad disk says", error.code(), error.details())
        finally:
            self.life.patience = []
            self.disk.full.unlink(missing_ok=True)
        hit = self.hit()
        server.stop()
        return hit

    def make_room(self):
        while self.hit() is None and self.servers[0].process.poll() is None:
            time.sleep(0.01)
        time.sleep(FULL_FOR)
        self.disk.full.unlink(missing_ok=True)

    def hit(self, at=None):
        calls = self.disk.calls()
        at = at or self.at
        return " ".join(calls[at - 1]) if at and len(calls) >= at else None

    def undisturbed_rest(self):
        """A server on a good disk, to the end of the life and with nothing left behind."""
        server = self.start("bare")
        hold(server.address, "I8 the server does not start again")
        with client_of(server, self.setup.api) as client:
            try:
                self.life.live(client)
            except grpc.RpcError as error:
                raise Broken(f"I8 a good server says {error.code()}: {error.details()}")
        hold(server.stop() == 0, "the server did not stop in peace")
        look_over_at_the_end(self.disk)


# ---- what is on the disk ----

def rows(database):
    """The digests that rows name, and the uploads that are open."""
    named, opened = set(), set()
    for tenant, name, state, digest in database.execute("SELECT tenant, id, state, digest FROM uploads"):
        named |= {digest} if state == "COMPLETE" else set()
        opened |= {f"{tenant}/{name}"} if state == "OPEN" else set()
    for table in ["models", "datasets"]:
        for (files,) in database.execute(f"SELECT files FROM {table} WHERE state <> 'DELETED'"):
            named |= {file["digest"] for file in json.loads(files)}
    for (result,) in database.execute("SELECT result FROM jobs WHERE result IS NOT NULL"):
        named |= {file["digest"] for file in json.loads(result)["artifacts"]}
    return named, opened


def look_over_database(path):
    database = sqlite3.connect(path)
    try:
        said = [row for (row,) in database.execute("PRAGMA integrity_check")]
        hold(said == ["ok"], "I16 the database is damaged", said)
        said = database.execute("PRAGMA foreign_key_check").fetchall()
        hold(not said, "I16 rows name what is not there", said)
        return rows(database)
    finally:
        database.close()


def blobs(data):
    """Files of the blob folder: digest that the name says -> path, and what has no such name."""
    named, others = {}, []
    for path in (data / "blobs").rglob("*"):
        digest = path.parent.name + path.name
        if path.is_file() and len(digest) == 64 and not set(digest) - set("0123456789abcdef"):
            named["sha256:" + digest] = path
        elif path.is_file():
            others.append(path)
    return named, others


def is_true(digest, path):
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() == digest


def look_over_after_crash(disk):
    """Every row leads to whole bytes (I2); looked at in a copy, since opening a database changes it."""
    if not (disk.data / "niwaki.sqlite").exists():
        return
    with tempfile.TemporaryDirectory(dir=disk.scratch) as copy:
        data = pathlib.Path(copy) / "data"
        # A job's process that has not yet noticed may still change its folder.
        shutil.copytree(disk.data, data, ignore=shutil.ignore_patterns("work"))
        try:
            named, _ = look_over_database(data / "niwaki.sqlite")
        except sqlite3.OperationalError as error:
            # Killed before its tables were made.
            hold("no such table" in str(error), "I16 the database cannot be read", error)
            return
        there, _ = blobs(data)
        for digest in named:
            hold(digest in there and is_true(digest, there[digest]), "I2 a row names bytes that are not there", digest)


def look_over_at_the_end(disk):
    named, opened = look_over_database(disk.data / "niwaki.sqlite")
    there, others = blobs(disk.data)
    below = lambda paths: sorted(str(path.relative_to(disk.data)) for path in paths)
    hold(not others, "I9 the blob folder has leftovers", below(others))
    for digest in named:
        hold(digest in there, "I2 a row names bytes that are not there", digest)
    for digest, path in there.items():
        hold(is_true(digest, path), "I14 a blob is not what its name says", digest)
    uploads = disk.data / "uploads"
    left = [path for path in uploads.rglob("*") if path.is_file() and str(path.relative_to(uploads)) not in opened]
    hold(not left, "I9 uploads have leftovers", below(left))
    left = list((disk.data / "work").rglob("*"))
    hold(not left, "I9 a job has left something", below(left))


# ---- all points ----

class Setup:
    """What all points have in common."""

    def __init__(self, program, writes, generated):
        self.program, self.writes = program, writes
        self.api = generate(generated)
        self.inputs = Inputs()

    def golden(self):
        """An undisturbed life: its durable calls. Its model is what all others must make."""
        with tempfile.TemporaryDirectory() as scratch:
            point = Point(self, "golden", 0, scratch)
            try:
                server = point.start()
                with client_of(server, self.api) as client:
                    point.life.live(client)
                hold(server.stop() == 0, "the server did not stop in peace")
                look_over_at_the_end(point.disk)
            finally:
                for server in point.servers:
                    server.kill()
            self.inputs.golden = point.life.result
            return point.disk.calls()


class Suite:
    def __init__(self, setup, arguments):
        self.setup, self.arguments = setup, arguments
        self.hits, self.broken, self.missed = collections.Counter(), [], 0
        self.said = threading.Lock()

    def point(self, mode, at):
        if self.broken and self.arguments.first:
            return
        scratch = tempfile.mkdtemp(prefix=f"niwaki-{mode}-{at}-")
        begun, problem, hit, point = time.monotonic(), None, None, None
        try:
            point = Point(self.setup, mode, at, scratch)
            hit = point.run()
        except Broken as error:
            problem = str(error)
        except Exception:
            problem = "the test itself failed: " + traceback.format_exc()
        if problem:
            hit = point and point.hit()
        with self.said:
            self.say(mode, at, hit, problem, time.monotonic() - begun, scratch, point)
        if not problem and not self.arguments.keep:
            shutil.rmtree(scratch, ignore_errors=True)

    def say(self, mode, at, hit, problem, seconds, scratch, point):
        if problem:
            self.broken.append((mode, at))
            history = "\n".join("      " + " ".join(map(str, fact)) for fact in (point.life.history if point else [])[-12:])
            print(f"  {mode} {at} at `{hit}`: BROKEN\n    {problem}\n    history:\n{history}\n    files: {scratch}\n"
                  f"    again: {sys.executable} tests/faults/crashpoints.py --mode {mode} --at {at}", flush=True)
        elif hit is None:
            self.missed += 1
            print(f"  {mode} {at}: the life has fewer calls ({seconds:.1f} s)", flush=True)
        else:
            self.hits[mode, hit.split(" ")[0]] += 1
            print(f"  {mode} {at} at `{hit}`: ok ({seconds:.1f} s)", flush=True)

    def run(self, points):
        with concurrent.futures.ThreadPoolExecutor(self.arguments.jobs) as pool:
            for done in [pool.submit(self.point, mode, at) for mode, at in points]:
                done.result()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=ROOT / "target/debug/niwaki", type=pathlib.Path)
    parser.add_argument("--mode", action="append", choices=MODES, help="only these; errors are sampled by default")
    parser.add_argument("--at", type=int, help="only this point")
    parser.add_argument("--every", type=int, default=1, help="every k-th point")
    parser.add_argument("--jobs", type=int, default=2, help="points at once")
    parser.add_argument("--writes", action="store_true", help="for errors: writes are points too")
    parser.add_argument("--call", action="append", help="only points at calls that have this in their line")
    parser.add_argument("--first", action="store_true", help="stop at the first point that is broken")
    parser.add_argument("--keep", action="store_true", help="keep the files of points that are well, too")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as generated:
        setup = Setup(arguments.program, arguments.writes, generated)
        calls = setup.golden()
        kinds = collections.Counter(call for call, _ in calls)
        print(f"an undisturbed life: {len(calls)} durable calls "
              f"({', '.join(f'{count} {call}' for call, count in kinds.most_common())}), "
              f"model {setup.inputs.golden[:19]}, {time.monotonic() - begun:.1f} s")
        suite = Suite(setup, arguments)
        points = []
        for mode in arguments.mode or MODES:
            # Bad disks are many times the same; one in five is a sample.
            step = arguments.every * (1 if arguments.mode or mode not in [*ERRORS, "full", "kill-twice"] else 5)
            wanted = lambda call: not arguments.call or any(part in " ".join(call) for part in arguments.call)
            places = [at for at, call in enumerate(calls, 1) if wanted(call)][::step]
            points += [(mode, at) for at in ([arguments.at] if arguments.at else places)]
        suite.run(points)
    for (mode, call), count in sorted(suite.hits.items()):
        print(f"  {mode:12} {call:10} {count}")
    print(f"{len(points)} points, {len(suite.broken)} broken, {suite.missed} beyond the end, {time.monotonic() - begun:.0f} s")
    return 1 if suite.broken else 0


if __name__ == "__main__":
    sys.exit(main())
