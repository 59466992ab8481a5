#!/usr/bin/env python3
"""What the network costs: first syncs, how soon a command is on the other device, bytes an entry, idling.

Real `rr daemon` and `rr hub` processes in network namespaces of this Linux machine; needs root. README.md
beside this file says how each figure is taken.
"""

import json
import math
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
import zlib
from datetime import datetime, timezone

import common
import netlab

MB = 1e6
ROUND_TRIPS_MS = (0, 25, 100)
LATENCY_ROUND_TRIPS_MS = (0, 25)
COMMANDS = 200
DEVICES = 10
NEWS = 20
# Longer than any measurement: what is typed has to arrive by itself.
NO_ROUNDS = "12h"
POLL_S = 0.002
MEETING_S = 120
SETTLING_S = 10
# Ethernet 14, IPv4 20, TCP with time stamps 32.
HEADER_BYTES = 66


# --- What the sections share ---------------------------------------------------------------------


def count(db):
    """The last position of a log that a daemon may be writing, 0 before there is one."""
    try:
        return db.execute("SELECT coalesce(max(ingest_seq), 0) FROM entries").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def reader(device):
    """Its database, for reading alone; `None` before there is one."""
    try:
        return sqlite3.connect(f"file:{device.db}?mode=ro", uri=True, timeout=1)
    except sqlite3.OperationalError:
        return None


def pair(args, lab, rr, hosts):
    """(swarm, a, b): the first has the history, the second nothing; the hub runs."""
    swarm = netlab.Swarm(lab, rr, os.path.join(args.out, "network"))
    a, b = (swarm.device(host, name, mdns=False) for host, name in zip(hosts, "ab"))
    directory, _ = common.data(args, args.entries)
    a.rr("import", "jsonl", "--path", os.path.join(directory, "history.jsonl"))
    swarm.start_hub()
    return swarm, a, b


def is_identical(device, other, path=None):
    """Whether it says so of the other one (and is connected that way)."""
    peer = device.peers().get(other.name)
    return peer and peer["identical"] and (path is None or peer["path"] == path)


def sync_to_identical(swarm, a, b):
    """Starts both; (seconds until the second is identical, seconds until it had the first entry).

    What is polled is a number in its database every 50 ms; `rr status` is only asked once all is there.
    """
    a.start()
    wait_at_hub(swarm, [a])
    wanted = a.status()["db"]["entries"]
    os.sync()
    first, db = None, None
    began = time.monotonic()
    b.start()

    def all_there():
        nonlocal first, db
        db = db or reader(b)
        there = count(db) if db else 0
        if there and first is None:
            first = time.monotonic() - began
        return there >= wanted

    alive = [a.daemon, b.daemon, swarm.hub]
    seconds = 120 + wanted / 5000
    netlab.wait(f"b has all {wanted:,} entries", seconds, all_there, alive=alive)
    netlab.wait("b says that a is identical", MEETING_S, lambda: is_identical(b, a), alive=alive, step=0.02)
    took = time.monotonic() - began
    db.close()
    return took, first


def wait_at_hub(swarm, devices):
    for device in devices:
        what = f"{device.name} is at the hub"
        netlab.wait(what, MEETING_S, device.is_at_hub, alive=[device.daemon, swarm.hub])


def rank(values, share):
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def way(blocked):
    return "through the relay" if blocked else "direct"


# --- 1: first sync -------------------------------------------------------------------------------


def sqlite_alone(args, device):
    """Seconds that SQLite needs for the same rows."""
    alone = os.path.join(args.out, "network/alone.db")
    os.sync()
    took = float(subprocess.check_output([args.insert, device.db, alone], text=True))
    for end in ("", "-wal", "-shm"):
        if os.path.exists(alone + end):
            os.remove(alone + end)
    return took


def first_sync(args, lab, rr, hosts):
    """One first sync, as a dictionary."""
    swarm, a, b = pair(args, lab, rr, hosts)
    with swarm:
        bare = sqlite_alone(args, a)
        before = lab.counted()
        took, first = sync_to_identical(swarm, a, b)
        wire = lab.counted()
        wire.subtract(before)
        three = {"a": a.daemon, "b": b.daemon, "hub": swarm.hub}
        cpu = {name: process.cpu() for name, process in three.items()}
        time.sleep(SETTLING_S)
        path = b.peers()["a"]["path"]
        memory = {name: process.memory() for name, process in three.items()}
        at_a, at_b, hub = a.host.addr, b.host.addr, netlab.HUB
        return {
            "took": took,
            "first": first,
            "bare": bare,
            "direct": wire[at_a, at_b] + wire[at_b, at_a],
            "to_b": wire[at_a, at_b] + wire[hub, at_b],
            "from_b": wire[at_b, at_a] + wire[at_b, hub],
            "path": path,
            "cpu": cpu,
            "peak": {name: it["VmHWM"] for name, it in memory.items()},
            "after": {name: it["VmRSS"] for name, it in memory.items()},
            "anon": {name: it["RssAnon"] for name, it in memory.items()},
        }


def report_first_sync(args, rr):
    runs = {}
    with netlab.Lab() as lab:
        hosts = lab.public("a"), lab.public("b")
        for ms in ROUND_TRIPS_MS:
            lab.round_trip(ms)
            for blocked in (False, True):
                lab.block(*hosts, blocked)
                for n in range(args.runs):
                    common.say(f"first sync, {way(blocked)}, {ms} ms ({n + 1} of {args.runs})")
                    runs.setdefault((blocked, ms), []).append(first_sync(args, lab, rr, hosts))
    print(f"## First sync of {args.entries:,} entries\n")
    print(
        f"Medians of {args.runs} run(s). Seconds from the start of the empty device's daemon until it says *identical*. Target: direct "
        "within 1.5 times SQLite alone; through the relay within 2 times direct.\n"
    )
    median = lambda key, part: common.spread([key(run) for run in part], digits=2) if args.runs > 1 else f"{key(part[0]):.2f}"
    middle = lambda key, part: statistics.median(key(run) for run in part)
    three = lambda key, part, scale, digits: " / ".join(
        f"{max(run[key][name] for run in part) / scale:.{digits}f}" for name in ("b", "a", "hub")
    )
    rows, costs = [], []
    for (blocked, ms), part in runs.items():
        took = middle(lambda run: run["took"], part)
        direct = middle(lambda run: run["took"], runs[False, ms])
        name = f"{way(blocked)}, {ms} ms"
        rows.append([
            name,
            median(lambda run: run["took"], part),
            median(lambda run: run["first"], part),
            median(lambda run: run["bare"], part),
            f"{statistics.median(run['took'] / run['bare'] for run in part):.2f}" + ("" if blocked else " (1.5)"),
            f"{took / direct:.2f} (2)" if blocked else "",
        ])
        costs.append([
            name,
            f"{middle(lambda run: run['to_b'], part) / MB:.1f}",
            f"{middle(lambda run: run['from_b'], part) / MB:.1f}",
            f"{100 * middle(lambda run: run['direct'] / (run['to_b'] + run['from_b']), part):.0f} %",
            part[0]["path"],
            three("peak", part, MB, 0),
            three("after", part, MB, 0),
            three("anon", part, MB, 0),
            three("cpu", part, 1, 1),
        ])
    common.table(
        ["way, round trip", "seconds", "first entry there after", "SQLite alone", "ratio (target)", "to direct (target)"], rows
    )
    common.table(
        ["way, round trip", "MB to the new device", "MB from it", "of it directly", "path told", "peak MB: new / old device / hub",
         f"resident {SETTLING_S} s later", "of it not from files", "CPU s"],
        costs,
    )


# --- 2: from one device to the other -------------------------------------------------------------


def latencies(args, a, b, swarm, label):
    """Milliseconds from writing a command to the spool of one until it is in the database of the other."""
    chance = random.Random(args.seed)
    db = reader(b)
    times = []
    for n in range(COMMANDS):
        seen, cmd = count(db), f"echo {label} {n}"
        began = time.monotonic()
        a.types([cmd])

        def there():
            query = "SELECT 1 FROM entries WHERE ingest_seq > ? AND cmd = ?"
            return db.execute(query, (seen, cmd)).fetchone()

        alive = [a.daemon, b.daemon, swarm.hub]
        netlab.wait(f"command {n} of `{label}` is on b", 60, there, step=POLL_S, alive=alive)
        times.append((time.monotonic() - began) * 1000)
        # As somebody types, and never in step with anything.
        time.sleep(chance.uniform(0.05, 0.15))
    db.close()
    return times


def report_latency(args, rr):
    rows = []
    with netlab.Lab() as lab:
        hosts = lab.public("a"), lab.public("b")
        swarm, a, b = pair(args, lab, rr, hosts)
        with swarm:
            common.say("latency: the first sync")
            sync_to_identical(swarm, a, b)
            for ms in LATENCY_ROUND_TRIPS_MS:
                for blocked in (False, True):
                    common.say(f"latency, {way(blocked)}, {ms} ms")
                    a.stop(), b.stop()
                    lab.round_trip(ms)
                    lab.block(*hosts, blocked)
                    a.start(), b.start()
                    wait_at_hub(swarm, [a, b])
                    path = "relay" if blocked else "direct"
                    for one, other in ((a, b), (b, a)):
                        what = f"{one.name} is identical with {other.name}, connected by `{path}`"
                        meets = lambda: is_identical(one, other, path)
                        netlab.wait(what, MEETING_S, meets, alive=[a.daemon, b.daemon, swarm.hub])
                    time.sleep(SETTLING_S)
                    before = lab.counted()
                    times = latencies(args, a, b, swarm, f"{path}-{ms}")
                    after = lab.counted()
                    key = (a.host.addr, b.host.addr)
                    passed = after[key] - before[key] > COMMANDS * 100
                    if passed == blocked:
                        raise netlab.Failed(f"what was typed did not go `{path}`, by the router's counters")
                    rows.append([
                        f"{way(blocked)}, {ms} ms",
                        f"{statistics.median(times):.1f}",
                        f"{rank(times, 0.99):.1f}",
                        f"{max(times):.1f}",
                        "1,000",
                    ])
    print("## A command on one device is in the other's database\n")
    print(f"{COMMANDS} commands, both with {args.entries:,} entries; milliseconds; looked for every {POLL_S * 1000:.0f} ms.\n")
    common.table(["way, round trip", "median", "p99", "largest", "target"], rows)


# --- 3 and 4: ten devices ------------------------------------------------------------------------


def typical(args, number):
    """Commands of the made-up history that are one line and not long, each another one."""
    directory, _ = common.data(args, args.entries)
    cmds = {}
    with open(os.path.join(directory, "history.jsonl")) as file:
        for line in file:
            cmd = json.loads(line)["cmd"]
            if len(cmd) < 200 and "\n" not in cmd:
                cmds[cmd] = True
            if len(cmds) == number:
                break
    return list(cmds)


def ten(args, lab, rr, cmds):
    """Ten devices on one network, each identical with all others after at most a few rounds."""
    swarm = netlab.Swarm(lab, rr, os.path.join(args.out, "network"))
    try:
        swarm.start_hub()
        for n in range(DEVICES):
            swarm.device(lab.on_lan(f"d{n}"), f"d{n}")
        swarm.devices[0].types(cmds)
        for device in swarm.devices:
            device.start()
        all_meet(swarm, len(cmds))
    except BaseException:
        swarm.__exit__()
        raise
    return swarm


def all_meet(swarm, entries):
    """Waits until each holds so many entries, and is connected and identical with each other one."""
    alive = [swarm.hub, *(device.daemon for device in swarm.devices)]
    wait_at_hub(swarm, swarm.devices)
    for device in swarm.devices:

        def missing():
            peers = device.peers()
            others = [other.name for other in swarm.devices if other is not device]
            right = lambda peer: peer and peer["identical"] and peer["path"] in ("lan", "direct")
            return [name for name in others if not right(peers.get(name))]

        what = f"{device.name} is identical and directly connected with {DEVICES - 1} others"
        netlab.wait(what, 4 * 60 + MEETING_S, lambda: not missing(), step=0.5, alive=alive)
        there = device.status()["db"]["entries"]
        if there != entries:
            raise netlab.Failed(f"{device.name} has {there} entries instead of {entries}")


def without_rounds(swarm, entries):
    """Starts all daemons again, with rounds that none of them lives to see."""
    for device in swarm.devices:
        device.stop()
        device.configure(sync_interval=NO_ROUNDS)
    for device in swarm.devices:
        device.start()
    all_meet(swarm, entries)


def cbor_head(kind, number):
    for size, mark in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if number < 24:
            return bytes([kind << 5 | number])
        if number < 1 << (8 * size):
            return bytes([kind << 5 | mark]) + number.to_bytes(size, "big")
    raise OverflowError(number)


def cbor(value):
    """As much CBOR as an entry needs."""
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return cbor_head(0, value) if value >= 0 else cbor_head(1, -1 - value)
    if isinstance(value, bytes):
        return cbor_head(2, len(value)) + value
    if isinstance(value, str):
        return cbor_head(3, len(value.encode())) + value.encode()
    return cbor_head(4, len(value)) + b"".join(map(cbor, value))


def plain(entry):
    """An entry of `rr list --json` as docs/protocol.md has it on the wire."""
    ts = datetime.fromisoformat(entry["ts"].replace("Z", "+00:00")) - datetime.fromtimestamp(0, timezone.utc)
    micros = (ts.days * 86_400 + ts.seconds) * 1_000_000 + ts.microseconds
    texts = lambda *names: [entry[name] for name in names]
    return cbor([
        bytes.fromhex(entry["entry_id"].replace("-", "")),
        *texts("device_id", "user_id"),
        micros,
        entry["cmd"].encode(),
        entry["cwd"].encode(),
        *texts("exit_code", "duration_ms", "shell", "hostname", "version", "device_seq", "session"),
    ])


def compressor():
    """(its name, what it makes of bytes)"""
    zstd = shutil.which("zstd")
    if zstd:
        argv = [zstd, "-1", "--no-check", "-q", "-c"]
        return "zstd -1", lambda data: subprocess.run(argv, input=data, capture_output=True, check=True).stdout
    return "zlib (there is no zstd here)", lambda data: zlib.compress(data, 6)


def received(swarm):
    """{device: bytes in, packets in, bytes out, packets out}, of the hub too."""
    processes = {device.name: device.daemon for device in swarm.devices} | {"hub": swarm.hub}
    return {name: process.traffic() for name, process in processes.items()}


def passes(swarm, seconds, work=lambda: None):
    """What each card counts in exactly so many seconds, and what passed between devices, while `work` is done."""
    began = time.monotonic()
    before, pairs = received(swarm), swarm.lab.counted()
    work()
    time.sleep(max(0, began + seconds - time.monotonic()))
    after, pairs_after = received(swarm), swarm.lab.counted()
    pairs_after.subtract(pairs)
    return {name: [b - a for a, b in zip(before[name], after[name])] for name in after}, pairs_after


def report_bytes(args, rr):
    cmds = typical(args, 100 + NEWS)
    old, new = cmds[NEWS:], cmds[:NEWS]
    window = NEWS * args.spacing
    with netlab.Lab() as lab:
        common.say(f"bytes: {DEVICES} devices meet")
        with ten(args, lab, rr, old) as swarm:
            without_rounds(swarm, len(old))
            time.sleep(SETTLING_S)
            writer, readers = swarm.devices[0], swarm.devices[1:]

            def types():
                began = time.monotonic()
                for n, cmd in enumerate(new):
                    time.sleep(max(0, began + n * args.spacing - time.monotonic()))
                    writer.types([cmd])

            common.say(f"bytes: idle for {window} s, then {NEWS} entries in {window} s, then idle for {window} s")
            idle_before, pairs_before = passes(swarm, window)
            busy, pairs = passes(swarm, window, types)
            idle_after, pairs_after = passes(swarm, window)
            total = len(old) + NEWS
            for device in readers:
                there = device.status()["db"]["entries"]
                if there != total:
                    raise netlab.Failed(f"{device.name} has {there} entries of {total} after {window} s")
            listed = writer.rr("list", "--json", "--limit", str(NEWS)).splitlines()
            entries = [plain(json.loads(line)) for line in listed]
    names = [device.name for device in readers]
    idle = lambda name, at: (idle_before[name][at] + idle_after[name][at]) / 2
    extra = lambda name, at: (busy[name][at] - idle(name, at)) / NEWS
    mean = lambda at: statistics.mean(extra(name, at) for name in names)
    bytes_in, packets_in, bytes_out, packets_out = map(mean, range(4))
    addrs = {device.host.addr for device in readers}
    pairs_idle = lambda key: (pairs_before[key] + pairs_after[key]) / 2
    between = lambda wanted: sum(pairs[key] - pairs_idle(key) for key in pairs if wanted(*key)) / NEWS / len(readers)
    from_writer = between(lambda a, b: a == writer.host.addr and b in addrs)
    from_others = between(lambda a, b: a in addrs and b in addrs)
    name, compress = compressor()
    size = statistics.mean(map(len, entries))
    small = statistics.mean(len(compress(entry)) for entry in entries)
    together = len(compress(b"".join(entries))) / NEWS
    payload = bytes_in - packets_in * HEADER_BYTES
    print(f"## Bytes for one new entry among {DEVICES} devices\n")
    print(
        f"{NEWS} entries typed on one, {args.spacing} s apart, the others receive; the mean of the {len(readers)}; what the same "
        f"time costs without entries is subtracted. Compressed by {name}. Target: 1.3 times the compressed size.\n"
    )
    rows = [
        ["an entry on the wire, plain CBOR (docs/protocol.md)", f"{size:.0f}", f"{size / small:.2f}"],
        ["the same compressed alone", f"{small:.0f}", "1.00"],
        [f"the same, {NEWS} compressed together", f"{together:.0f}", f"{together / small:.2f}"],
        ["received by a device, as Ethernet frames", f"{bytes_in:.0f}", f"{bytes_in / small:.2f} (1.3)"],
        ["... without Ethernet, IP and TCP headers", f"{payload:.0f}", f"{payload / small:.2f} (1.3)"],
        ["... packets", f"{packets_in:.1f}", ""],
        ["... of it from the device that typed, as IP packets", f"{from_writer:.0f}", f"{from_writer / small:.2f}"],
        ["... of it from the other receivers, as IP packets", f"{from_others:.0f}", f"{from_others / small:.2f}"],
        ["sent by a receiving device, as Ethernet frames", f"{bytes_out:.0f}", f"{bytes_out / small:.2f}"],
        ["sent by the device that typed, to all", f"{extra(writer.name, 2):.0f}", ""],
        ["received by the hub", f"{extra('hub', 0):.0f}", ""],
    ]
    common.table(["what", "bytes an entry", "ratio (target)"], rows)
    spread = lambda it: f"{statistics.mean(it[name][0] for name in names) / window:.0f}"
    print(
        f"Received while nothing is typed: {spread(idle_before)} bytes a second and device before, {spread(idle_after)} after; "
        f"{spread(busy)} meanwhile.\n",
        flush=True,
    )


class Switches:
    """How often the threads of a process gave up the processor by themselves, those that ended included."""

    def __init__(self, process):
        self.process, self.before = process, process.switches()
        self.last = dict(self.before)

    def look(self):
        self.last |= self.process.switches()

    def total(self):
        return sum(self.last.values()) - sum(self.before.values())


def report_idle(args, rr):
    seconds = args.idle_minutes * 60
    with netlab.Lab() as lab:
        common.say(f"idle: {DEVICES} devices meet")
        with ten(args, lab, rr, typical(args, 100)) as swarm:
            # Whatever follows a first meeting is over then: hole punching, old connections.
            time.sleep(min(60, seconds))
            processes = {device.name: device.daemon for device in swarm.devices} | {"hub": swarm.hub}
            common.say(f"idle: for {args.idle_minutes:g} minutes")
            switches = {name: Switches(process) for name, process in processes.items()}
            cpu = {name: process.cpu() for name, process in processes.items()}
            before, ends = received(swarm), time.monotonic() + seconds
            while (left := ends - time.monotonic()) > 0:
                time.sleep(min(5, left))
                for it in switches.values():
                    it.look()
            after = received(swarm)
            cpu = {name: process.cpu() - cpu[name] for name, process in processes.items()}
            memory = {name: process.memory() for name, process in processes.items()}
            threads = {name: len(process.switches()) for name, process in processes.items()}
            alive = all(process.child.poll() is None for process in processes.values())
    if not alive:
        raise netlab.Failed("a process has ended while nothing was to do")
    daemons = [name for name in processes if name != "hub"]
    passed = lambda at: {name: after[name][at] - before[name][at] for name in after}
    print(f"## {DEVICES} devices and their hub do nothing for {args.idle_minutes:g} minutes\n")
    rows = []
    for what, values, scale, digits, target in (
        ("resident, MB (VmRSS)", {name: it["VmRSS"] for name, it in memory.items()}, 1 / MB, 1, ("12", "8")),
        ("not from files, MB (RssAnon)", {name: it["RssAnon"] for name, it in memory.items()}, 1 / MB, 1, ("", "")),
        ("most ever resident, MB (VmHWM)", {name: it["VmHWM"] for name, it in memory.items()}, 1 / MB, 1, ("", "")),
        ("threads", threads, 1, 0, ("", "")),
        ("processor time, seconds", cpu, 1, 2, ("", "")),
        ("voluntary context switches a minute", {n: it.total() for n, it in switches.items()}, 60 / seconds, 1, ("", "")),
        ("bytes received a minute", passed(0), 60 / seconds, 0, ("", "")),
        ("bytes sent a minute", passed(2), 60 / seconds, 0, ("", "")),
        ("packets received a minute", passed(1), 60 / seconds, 1, ("", "")),
    ):
        rows.append([
            what,
            common.spread([values[name] for name in daemons], scale, digits),
            target[0],
            f"{values['hub'] * scale:.{digits}f}",
            target[1],
        ])
    common.table(["what", "daemon: median (min-max)", "target", "hub", "target"], rows)


# --- All of it -----------------------------------------------------------------------------------

SECTIONS = {"1": report_first_sync, "2": report_latency, "3": report_bytes, "4": report_idle}


def options():
    parser = common.options(
        __doc__,
        entries=(1_000_000, "entries of the history"),
        runs=(1, "first syncs of each kind"),
        only=("1,2,3,4", "the parts to measure, comma-separated: 1 first sync, 2 latency, 3 bytes, 4 idle"),
        idle_minutes=(10.0, "how long nothing is done"),
        spacing=(3, "seconds between the entries of part 3"),
        insert=(os.path.join(common.ROOT, "target/release/examples/sqlite_insert"), "inserts with SQLite alone"),
    )
    args = parser.parse_args()
    args.only = args.only.split(",")
    unknown = [part for part in args.only if part not in SECTIONS]
    if unknown:
        parser.error(f"--only: there is no part `{unknown[0]}`")
    return args


def main():
    args = options()
    netlab.require()
    rr = common.find(args, "rr")["rr"]
    if "1" in args.only and not os.path.exists(args.insert):
        sys.exit(
            f"error: `{args.insert}` is not here\n"
            "hint: cargo build --release -p rustory-store --example sqlite_insert, or --insert PATH, or --only 2,3,4"
        )

    def ends(number, _):
        # Once: what is made is being removed then.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, ends)
    signal.signal(signal.SIGTERM, ends)
    common.data(args, args.entries)
    system = os.uname()
    load = " ".join(f"{it:.1f}" for it in os.getloadavg())
    print(f"# The network, measured {time.strftime('%Y-%m-%dT%H:%MZ', time.gmtime())}\n")
    print(f"{common.version(rr)}; {system.sysname} {system.release}, {os.cpu_count()} processors, load before {load}.\n", flush=True)
    try:
        for part in args.only:
            SECTIONS[part](args, rr)
    except netlab.Failed as failure:
        sys.exit(f"error: {failure}")
    finally:
        shutil.rmtree(os.path.join(args.out, "network"), ignore_errors=True)


if __name__ == "__main__":
    main()
