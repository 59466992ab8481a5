#!/usr/bin/env python3
"""What syncing costs: a first sync beside SQLite alone, a round with nothing new, ten differences in a full history.

Two homes, two processes, a pipe between them as ssh would make it.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import common

FAR = "far"
NEAR = "near"


def far_end(directory, rr, home, delay_ms=0, count=None):
    """A program to use in the place of ssh: it runs the far end with another home.

    Without a delay and a count it gets out of the way; else it carries the bytes itself.
    """
    bin_dir = os.path.join(directory, "bin")
    os.makedirs(bin_dir, exist_ok=True)
    rustory = os.path.join(bin_dir, "rustory")
    if not os.path.exists(rustory):
        os.symlink(rr, rustory)
    path = os.path.join(directory, f"ssh-{delay_ms}-{bool(count)}")
    run = f"HOME={home} PATH={bin_dir}:/usr/bin:/bin exec rustory serve --stdio"
    with open(path, "w") as file:
        if delay_ms or count:
            wire = os.path.join(common.BENCH, "wire.py")
            file.write(f'#!/bin/sh\nexec {sys.executable} {wire} {delay_ms} {count} sh -c "{run}"\n')
        else:
            file.write(f"#!/bin/sh\n{run}\n")
    os.chmod(path, 0o755)
    return path


class Peak(threading.Thread):
    """Watches the peak memory of the process whose home is `home`, until stopped."""

    def __init__(self, home):
        super().__init__(daemon=True)
        self.mark, self.peak, self.running, self.pid = f"HOME={home}\0".encode(), 0, True, None

    def find(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if self.mark in file.read():
                        return pid
            except OSError:
                pass
        return None

    def run(self):
        while self.running:
            self.pid = self.pid or self.find()
            try:
                with open(f"/proc/{self.pid}/status") as file:
                    for line in file:
                        if line.startswith("VmHWM:"):
                            self.peak = max(self.peak, int(line.split()[1]) * 1024)
            except OSError:
                self.pid = None
            # Often enough for a peak that only rises, seldom enough to cost nothing.
            time.sleep(0.1)

    def stop(self):
        self.running = False
        self.join()
        return self.peak


def sync(rr, home, ssh):
    """(the report of `rr sync --json`, what the process took)."""
    env = common.environment(home, RUSTORY_SSH=ssh)
    with tempfile.NamedTemporaryFile("r") as out:
        wrapped = ["sh", "-c", 'exec "$0" sync --json ssh:far > "$1"', rr, out.name]
        cost = common.Cost(wrapped, env)
        return json.load(out), cost


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def database(home):
    return os.path.join(home, ".rustory/history.db")


def copy_as_other_device(source, home):
    """A log with the same entries that is another device's: what a long acquaintance leads to."""
    os.makedirs(os.path.dirname(database(home)), exist_ok=True)
    shutil.copy(database(source), database(home))
    with sqlite3.connect(database(home)) as db:
        db.execute("UPDATE meta SET value = randomblob(16) WHERE key = 'log_id'")
        db.execute("UPDATE meta SET value = 'other-device' WHERE key = 'device_id'")
    os.chmod(database(home), 0o600)


def first_sync(rr, insert, base, far, args):
    """First sync and SQLite's own insert, turn and turn about."""
    rows = []
    ssh = far_end(base, rr, far)
    for _ in range(args.runs):
        near = fresh(os.path.join(base, NEAR))
        alone = os.path.join(base, "alone.db")
        for name in (alone, alone + "-wal", alone + "-shm"):
            if os.path.exists(name):
                os.remove(name)
        bare = float(subprocess.check_output([insert, database(far), alone], text=True))
        os.remove(alone)
        watch = Peak(far)
        watch.start()
        report, cost = sync(rr, near, ssh)
        far_peak = watch.stop()
        assert report["identical"] and report["pulled"] == args.entries, report
        rows.append((cost.wall, bare, cost.wall / bare, cost.peak, far_peak))
    return rows


def quiet_round(rr, base, near, far, args):
    """Bytes both ways, and milliseconds from the first byte to the last word."""
    count = os.path.join(base, "count")
    report, _ = sync(rr, near, far_end(base, rr, far, 0, count))
    with open(count) as file:
        up, down = map(int, file.read().split())
    times = [sync(rr, near, far_end(base, rr, far))[0]["ms"] for _ in range(10)]
    assert report["received"] == 0 and report["sent"] == 0, report
    return up + down, common.statistics.median(times)


class Repaired(threading.Thread):
    """Watches two databases until both hold `count` entries; `at` is when, by the monotonic clock."""

    def __init__(self, homes, count):
        super().__init__(daemon=True)
        self.waiting, self.count, self.at = [database(home) for home in homes], count, None

    def run(self):
        opened = [sqlite3.connect(f"file:{path}?mode=ro", uri=True) for path in self.waiting]
        # The sums are kept with every insert: reading them costs the two processes nothing.
        counts = "SELECT sum(count) FROM devices"
        while any(db.execute(counts).fetchone()[0] < self.count for db in opened):
            time.sleep(0.01)
        self.at = time.monotonic()


def differences(rr, base, source, args, delay_ms=500):
    """Ten entries missing, five on each side: bytes, round trips until they are repaired and until that is
    proven, seconds without delay."""
    count = os.path.join(base, "count")
    results = []
    for delay in (delay_ms, 0):
        near, far = fresh(os.path.join(base, "d-near")), fresh(os.path.join(base, "d-far"))
        for home, parity in ((near, 0), (far, 1)):
            if parity:
                copy_as_other_device(source, home)
            else:
                os.makedirs(os.path.dirname(database(home)))
                shutil.copy(database(source), database(home))
            with sqlite3.connect(database(home)) as db:
                for n in range(5):
                    at = args.entries * (2 * n + parity + 1) // 12
                    db.execute("DELETE FROM entries WHERE ingest_seq = ?", (at,))
            subprocess.run([rr, "verify", "-q"], env=common.environment(home), capture_output=True, check=False)
        watch = Repaired((near, far), args.entries)
        watch.start()
        began = time.monotonic()
        report, cost = sync(rr, near, far_end(base, rr, far, delay, count))
        watch.join(timeout=5)
        assert report["identical"] and report["received"] == 5 and report["sent"] == 5, report
        with open(count) as file:
            results.append((sum(map(int, file.read().split())), watch.at - began, report["ms"] / 1000, cost.peak))
    (size, slow_repair, slow, peak), (_, fast_repair, fast, _) = results
    trip = 2 * delay_ms / 1000
    return size, (slow_repair - fast_repair) / trip, (slow - fast) / trip, fast, peak


def main():
    parser = common.options(
        __doc__,
        entries=(1_000_000, "entries of the history"),
        runs=(3, "first syncs"),
        insert=(os.path.join(common.ROOT, "target/release/examples/sqlite_insert"), "inserts with SQLite alone"),
    )
    args = parser.parse_args()
    rr = common.find(args, "rr")["rr"]
    if not os.path.exists(args.insert):
        sys.exit(
            f"error: `{args.insert}` is not here\n"
            "hint: cargo build --release -p rustory-store --example sqlite_insert, or --insert PATH"
        )
    directory, _ = common.data(args, args.entries)
    base = os.path.join(args.out, "sync")
    far = fresh(os.path.join(base, FAR))
    jsonl = os.path.join(directory, "history.jsonl")
    common.Cost([rr, "import", "jsonl", "--path", jsonl], common.environment(far))

    rows = first_sync(rr, args.insert, base, far, args)
    near = os.path.join(base, NEAR)
    size, took = quiet_round(rr, base, near, far, args)
    wire, repaired, trips, fast, peak = differences(rr, base, far, args)
    median = common.statistics.median
    mb = 1e6
    print(f"{args.entries:,} entries, {args.runs} runs, medians; rr {common.version(rr)}\n")
    print("| what | reached | target |\n|---|---:|---:|")
    print(f"| first sync | {median(r[0] for r in rows):.2f} s | |")
    print(f"| SQLite alone inserts the same rows | {median(r[1] for r in rows):.2f} s | |")
    print(f"| ratio | {median(r[2] for r in rows):.2f} | 1.5 |")
    print(f"| peak memory, receiver / sender | {max(r[3] for r in rows) / mb:.0f} / {max(r[4] for r in rows) / mb:.0f} MB | 100 MB |")
    print(f"| a round with nothing new, both ways together | {size} bytes, {took:.1f} ms | 1,024 bytes, 5 ms |")
    print(f"| 10 differences: on the wire | {wire:,} bytes | 100,000 |")
    print(f"| 10 differences: round trips until both have them | {repaired:.1f} | 5 |")
    print(f"| 10 differences: round trips until that is proven | {trips:.1f} | |")
    print(f"| 10 differences: time, peak memory | {fast:.2f} s, {peak / mb:.0f} MB | |")


if __name__ == "__main__":
    main()
