"""The disk that fails on purpose (shim.c), from outside: builds it, says what it is to do, and puts a disk together after
a loss of power.

    python tests/faults/disk.py        checks the shim itself with a program that syncs and one that does not
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = pathlib.Path(__file__).with_name("shim.c")
KILLS = ["kill-before", "kill-after"]
# `power`: what was not synced is lost. `power-names`: names arrived, bytes that were not synced did not.
POWER = ["power", "power-names"]
ERRORS = ["eio", "enospc"]


def build():
    """Compiles the shim into target/ if it is not there, and gives its path."""
    shim = ROOT / "target" / "faults" / "shim.so"
    if not shim.exists() or shim.stat().st_mtime < SOURCE.stat().st_mtime:
        shim.parent.mkdir(parents=True, exist_ok=True)
        made = shim.with_suffix(f".{os.getpid()}")
        command = ["cc", "-Wall", "-Wextra", "-O1", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl", "-lpthread"]
        subprocess.run(command, check=True)
        made.rename(shim)
    return shim


class Disk:
    """A folder `data` in a scratch folder, and what the shim needs beside it."""

    def __init__(self, scratch):
        self.scratch = pathlib.Path(scratch).resolve()
        self.data = self.scratch / "disk" / "data"
        self.root = self.data.parent
        self.shadow = self.scratch / "shadow"
        self.trace = self.scratch / "trace"
        self.full = self.scratch / "full"
        self.root.mkdir()

    def environment(self, mode=None, at=0, lasting=False, writes=False):
        """The environment of a process under the shim: it does `mode` at call `at`, or only counts."""
        given = {"LD_PRELOAD": build(), "SHIM_ROOT": self.root, "SHIM_TRACE": self.trace}
        if mode:
            given |= {"SHIM_MODE": "power" if mode in POWER else mode, "SHIM_AT": at}
        if mode in POWER:
            shutil.rmtree(self.shadow, ignore_errors=True)
            self.shadow.mkdir()
            given["SHIM_SHADOW"] = self.shadow
        if lasting:
            self.full.touch()
            given["SHIM_WHILE"] = self.full
        if writes:
            given["SHIM_WRITES"] = 1
        return os.environ | {name: str(value) for name, value in given.items()}

    def calls(self):
        """The counted calls so far, as (call, path)."""
        text = self.trace.read_text() if self.trace.exists() else ""
        return [tuple(line.split(" ", 2)[1:]) for line in text.splitlines()]

    def lose_power(self, mode):
        """Puts the disk back to what was synced, after the process was killed."""
        found = self.scratch / "found"
        os.mkdir(found)
        if mode == "power":
            self._build(self.root.stat().st_ino, found)
        else:
            self._build_named(self.root, found)
        lost = self.scratch / "lost"
        shutil.rmtree(lost, ignore_errors=True)
        self.root.rename(lost)
        found.rename(self.root)

    def _build(self, ino, folder):
        """The names and bytes that were synced."""
        names = self.shadow / "dirs" / str(ino)
        for line in names.read_text().splitlines() if names.exists() else []:
            kind, child, name = line.split(" ", 2)
            if kind == "d":
                os.mkdir(folder / name)
                self._build(int(child), folder / name)
            else:
                self._fill(int(child), folder / name)

    def _build_named(self, source, folder):
        """The names that are there, with the bytes that were synced."""
        for entry in os.scandir(source):
            if entry.is_dir(follow_symlinks=False):
                os.mkdir(folder / entry.name)
                self._build_named(entry.path, folder / entry.name)
            else:
                self._fill(entry.inode(), folder / entry.name)

    def _fill(self, ino, path):
        synced = self.shadow / "files" / str(ino)
        if synced.exists():
            shutil.copyfile(synced, path)
        else:
            path.touch()


# ---- the shim's own test ----

PROGRAM = """
import os
def put(name, text, sync):
    fd = os.open(name, os.O_CREAT | os.O_WRONLY)
    os.write(fd, text)
    if sync: os.fsync(fd)
    os.close(fd)
def sync_folder(name="."):
    fd = os.open(name, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
put("synced", b"one", True)
put("unsynced", b"two", False)
put("before", b"three", True)
put("gone", b"four", True)
os.mkdir("kept")
put("kept/a", b"five", True)
sync_folder("kept")
put("kept/b", b"six", True)             # its name is not synced
sync_folder()
fd = os.open("synced", os.O_WRONLY | os.O_APPEND)
os.write(fd, b" more")                  # lost
os.rename("before", "after")            # undone
os.unlink("gone")                       # undone
put("new", b"seven", True)              # its inode must not be that of `gone`
os.mkdir("folder")                      # undone
os.rmdir("folder")
put("last", b"eight", True)
os.fsync(fd)
"""


def run(disk, mode, at):
    disk.data.mkdir(exist_ok=True)
    environment = disk.environment(mode, at)
    return subprocess.run([sys.executable, "-c", PROGRAM], cwd=disk.data, env=environment, stderr=subprocess.PIPE, text=True)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def on_new_disk(mode, at):
    with tempfile.TemporaryDirectory() as scratch:
        disk = Disk(scratch)
        done = run(disk, mode, at)
        calls = disk.calls()
        if mode in POWER:
            disk.lose_power(mode)
        return done, calls, tree(disk.data)


def check():
    done, calls, everything = on_new_disk(None, 0)
    assert done.returncode == 0, done.stderr
    assert [call for call, _ in calls] == ["fsync"] * 3 + ["mkdir"] + ["fsync"] * 4 + [
        "rename", "unlink", "fsync", "mkdir", "rmdir", "fsync", "fsync"], calls
    last = len(calls)
    first = {"synced": "one", "unsynced": "", "before": "three", "gone": "four", "kept/a": "five"}
    done, calls, found = on_new_disk("power", last)
    assert done.returncode == -signal.SIGKILL and len(calls) == last
    assert found == first, found
    _, _, found = on_new_disk("power-names", last)
    named = {"synced": "one", "unsynced": "", "after": "three", "kept/a": "five", "kept/b": "six", "new": "seven", "last": "eight"}
    assert found == named, found
    # Before the folder is synced there is nothing but what was there before.
    _, _, found = on_new_disk("power", 8)
    assert found == {}, found
    # A kill loses nothing that was written, and the n-th call is made or not.
    rename = [call for call, _ in calls].index("rename") + 1
    for mode, name in [("kill-before", "before"), ("kill-after", "after")]:
        done, calls, found = on_new_disk(mode, rename)
        assert done.returncode == -signal.SIGKILL and name in found and found["synced"] == "one more", found
    assert everything["synced"] == "one more" and "after" in everything
    for mode, text in [("eio", "Input/output error"), ("enospc", "No space left on device")]:
        done, calls, found = on_new_disk(mode, rename)
        assert done.returncode == 1 and text in done.stderr and "before" in found, done.stderr
    print("the shim counts, kills, fails and loses what it should")


if __name__ == "__main__":
    check()
