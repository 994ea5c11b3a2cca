"""Plants bugs (src/fault.rs) one at a time, and checks that the suite that should find each does.

    python tests/faults/planted.py                    all of them
    python tests/faults/planted.py --bug SkippedSync  one

A suite counts if it passes without the bug and fails with it.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target" / "faults" / "niwaki-planted"
CARGO = ["cargo", "test", "--quiet", "--features", "planted-bugs"]
LIFE = [sys.executable, "tests/faults/crashpoints.py", "--program", str(PROGRAM), "--first"]
SUITES = {
    "SkippedSync": [*LIFE, "--mode", "power", "--call", "/data/uploads/", "--call", "wal"],
    "EarlyAcknowledgement": [*LIFE, "--mode", "kill-before", "--call", "wal"],
    "OffsetBeforeChecksum": [*CARGO, "--test", "it", "uploads::"],
    "UnfencedAttempt": [*CARGO, "--lib", "jobs::"],
    "FinishTwice": [*CARGO, "--lib", "jobs::"],
    "CheckpointWithoutRandomness": [*CARGO, "--lib", "train::"],
}


def passes(suite, bug):
    """Whether a suite passes with a bug, or with none."""
    # A test that draws its cases at random must not keep those that a planted bug breaks.
    environment = os.environ | {"PROPTEST_DISABLE_FAILURE_PERSISTENCE": "1"}
    environment.pop("NIWAKI_PLANTED_BUG", None)
    if bug:
        environment["NIWAKI_PLANTED_BUG"] = bug
    done = subprocess.run(suite, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode == 0, done.stdout


def evidence(output):
    """The line that says what was found."""
    lines = [line.strip() for line in output.splitlines()]
    told = [line for line in lines if re.match(r"I\d+ |test .*FAILED|\S+ \S+ --- FAILED|.*panicked at", line)]
    return told[0] if told else (lines or ["nothing"])[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bug", action="append", choices=list(SUITES), help="only these")
    arguments = parser.parse_args()
    bugs = set(re.findall(r"^    (\w+),$", (ROOT / "src" / "fault.rs").read_text(), re.MULTILINE))
    assert bugs == set(SUITES), f"bugs without a suite, or the other way round: {bugs ^ set(SUITES)}"
    subprocess.run(["cargo", "build", "--quiet", "--features", "planted-bugs"], cwd=ROOT, check=True)
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "target" / "debug" / "niwaki", PROGRAM)

    failed, sound = 0, {}
    for bug in arguments.bug or SUITES:
        suite, begun = SUITES[bug], time.monotonic()
        key = tuple(suite)
        if key not in sound:
            sound[key], output = passes(suite, None)
            if not sound[key]:
                print(f"  {bug}: its suite fails without it:\n{output[-2000:]}")
        passed, output = passes(suite, bug)
        found = sound[key] and not passed
        failed += not found
        print(f"  {bug}: {'found: ' + evidence(output) if found else 'NOT FOUND'} ({time.monotonic() - begun:.0f} s)", flush=True)
    # The next build must not find the planted program where it looks for its own.
    subprocess.run(["cargo", "build", "--quiet"], cwd=ROOT, check=True)
    print(f"{len(arguments.bug or SUITES)} bugs, {failed} not found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
