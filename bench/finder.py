#!/usr/bin/env python3
"""How fast and how big an open finder is: rr's two modes, fzf on a ready file, atuin.

In a pseudo-terminal of 120 by 40, turn and turn about. Three times are measured, for every tool in
the same way, on what a terminal would show after each read (README.md has the reasons):

- painted: from starting the process until the newest command of the history is on the screen;
- last key: from the last key of a rare word until the screen shows the one command that has the
  word, and none of those (more than a screen full, shown until then) that have all but its last letter;
- pasted: the same for the whole word sent at once, to a finder that was asked nothing before.
"""

import json
import os
import re
import shutil
import sys
import time

import common
from pty_run import COLS, ROWS, Program, TimedOut


class Contender:
    """One way of opening a finder on the generated history."""

    def __init__(self, name, argv, env, probe, newest, stdin=None):
        self.name, self.argv, self.env, self.stdin = name, argv, env, stdin
        self.newest = newest
        self.probe = probe
        self.near_miss = re.compile(re.escape(probe["query"][:-1]) + r"\d\d")
        self.painted, self.cold, self.last_key, self.pasted, self.memory = [], [], [], [], []
        self.failed = None
        # In rr's fzf mode there must be an fzf; else it is the other mode that is measured.
        self.processes_min = 2 if name.startswith("rr, fzf") else 1

    def figures(self):
        """The medians, in the order of the table of ratios."""
        peaks = [peak for peak, _, _ in self.memory]
        return map(common.median, (self.painted, self.cold, self.last_key, self.pasted, peaks))

    def start(self):
        return Program(self.argv, self.env, stdin=self.stdin)

    def paint(self, program):
        return program.wait_for(lambda text: self.newest in text, f"{self.name}: the newest command") - program.started

    def run(self, cold):
        """Two starts, one for the keys and one for the paste; or a cold one that ends when painted."""
        if cold:
            common.drop_caches()
            self.once(self.cold)
            return
        self.once(self.painted, self.type_word)
        self.once(self.painted, self.paste_word)

    def once(self, painted, then=None):
        program = self.start()
        try:
            painted.append(self.paint(program))
            if then:
                self.rest(program)
                if len(program.family()) < self.processes_min and os.path.isdir("/proc"):
                    raise TimedOut(f"{self.name}: no second process")
                then(program)
                self.rest(program)
                self.memory.append(program.memory())
        finally:
            program.end()

    def rest(self, program):
        """Everything is loaded, or found, once nothing is drawn any more; some draw all the time."""
        program.settle(quiet=0.5, at_most=2)

    def type_word(self, program):
        query = self.probe["query"]
        for key in query[:-1]:
            program.send(key.encode())
            program.settle(quiet=0.03, at_most=1)
        program.wait_for(
            lambda text: len(self.near_miss.findall(text)) >= 10 and self.probe["target"] not in text,
            f"{self.name}: a screen of near misses",
        )
        self.rest(program)
        pressed = program.send(query[-1].encode())
        self.last_key.append(program.wait_for(self.is_filtered, f"{self.name}: the one match") - pressed)

    def paste_word(self, program):
        pressed = program.send(self.probe["query"].encode())
        self.pasted.append(program.wait_for(self.is_filtered, f"{self.name}: the one match") - pressed)

    def is_filtered(self, text):
        return self.probe["target"] in text and not self.near_miss.search(text)


def home_with_history(args, tool, program):
    """A home into which the tool has imported the history; kept for the next run of the same binary."""
    directory, manifest = common.data(args, args.entries)
    home = os.path.join(args.out, "homes", f"{tool}-{args.entries}-seed{args.seed}")
    key_path = os.path.join(home, "made-by")
    stat = os.stat(program)
    key = json.dumps([program, stat.st_size, stat.st_mtime_ns, manifest])
    try:
        with open(key_path) as file:
            if file.read() == key:
                return home
    except OSError:
        pass
    shutil.rmtree(home, ignore_errors=True)
    os.makedirs(home)
    common.say(f"importing {args.entries:,} entries into {home}")
    if tool == "rr":
        path = os.path.join(directory, "history.jsonl")
        common.Cost([program, "import", "jsonl", "--path", path], common.environment(home))
    else:
        common.atuin_home(home)
        env = common.environment(home, HISTFILE=os.path.join(directory, "zsh_extended"), SHELL="/usr/bin/zsh")
        common.Cost([program, "import", "zsh"], env)
        common.checkpoint(common.atuin_database(home, "history.db"))
    with open(key_path, "w") as file:
        file.write(key)
    return home


def contenders(args, tools):
    directory, manifest = common.data(args, args.entries)
    old, recent = manifest["probes"]["old"], manifest["probes"]["recent"]
    newest = manifest["newest"]
    if "rr" in tools:
        home = home_with_history(args, "rr", tools["rr"])
        env = common.environment(home, tools.values())
        everything = {**env, "RUSTORY_SEARCH_LIMIT_DEFAULT": str(args.entries)}
        search = [tools["rr"], "search", "--finder"]
        yield Contender("rr, built in, all entries", [*search, "builtin"], everything, old, newest)
        yield Contender("rr, built in, latest 100,000", [*search, "builtin"], env, recent, newest)
        if "fzf" in tools:
            yield Contender("rr, fzf, all entries", [*search, "fzf"], everything, old, newest)
            yield Contender("rr, fzf, latest 100,000", [*search, "fzf"], env, recent, newest)
    if "fzf" in tools:
        env = common.environment(args.out, tools.values())
        for name, file in (("fzf, ready file", "commands.nul"), ("fzf, ready file with repetitions", "history.nul")):
            yield Contender(name, [tools["fzf"], "--read0"], env, old, newest, os.path.join(directory, file))
    if "atuin" in tools:
        home = home_with_history(args, "atuin", tools["atuin"])
        env = common.environment(home, tools.values(), ATUIN_SESSION="0" * 32)
        yield Contender("atuin", [tools["atuin"], "search", "-i"], env, old, newest)


def measure(ways, args):
    dropping = args.cold and common.can_drop_caches()
    if args.cold and not dropping:
        common.say("the page cache can't be emptied (needs root on Linux): no cold starts")
    # The first round fills the page cache and is not counted.
    for count in range(-1, args.runs + (args.cold if dropping else 0)):
        for way in ways:
            if way.failed:
                continue
            try:
                way.run(cold=count >= args.runs)
            except (TimedOut, OSError) as err:
                way.failed = str(err).split("\n")[0]
                common.say(f"  {way.name} failed: {err}")
        if count < 0:
            for way in ways:
                way.painted, way.last_key, way.pasted, way.memory = [], [], [], []
        elif count < args.runs:
            common.say(f"  round {count + 1} of {args.runs}")


def times_row(way):
    return (
        way.name + (f" (failed: {way.failed})" if way.failed else ""),
        *(common.spread(values, 1000) for values in (way.painted, way.cold, way.last_key, way.pasted)),
    )


def memory_row(way):
    peak, now, own = zip(*way.memory) if way.memory else ((), (), ())
    return (way.name, *(common.spread(values, 1e-6) for values in (peak, now, own)))


def ratio_row(way, peer):
    pairs = zip(way.figures(), peer.figures())
    return (f"{way.name} / {peer.name}", *(common.ratio(ours, theirs, 3) for ours, theirs in pairs))


def main():
    args = common.options(
        __doc__,
        entries=(1_000_000, "entries of the history"),
        runs=(7, "rounds; each has two warm starts of every finder"),
        cold=(3, "cold starts of each, where the page cache can be emptied"),
    ).parse_args()
    tools = common.find(args, "rr", "fzf", "atuin")
    ways = list(contenders(args, tools))
    started = time.monotonic()
    measure(ways, args)
    common.say(f"  {time.monotonic() - started:.0f} s")
    _, manifest = common.data(args, args.entries)
    print(f"### The open finder, {args.entries:,} entries, {manifest['distinct']:,} distinct commands\n")
    print(
        f"{args.runs} rounds, turn and turn about, {COLS} by {ROWS} characters. Milliseconds and MB: median "
        "(min-max).\n"
    )
    common.table(("finder", "painted", "painted, cold", "last key", "pasted"), map(times_row, ways))
    common.table(("finder", "peak MB", "resident MB", "of that not from files"), map(memory_row, ways))
    ours, peers = [[way for way in ways if way.name.startswith("rr") is side] for side in (True, False)]
    if ours and peers:
        common.table(
            ("ratio of the medians", "painted", "painted, cold", "last key", "pasted", "peak memory"),
            [ratio_row(way, peer) for way in ours for peer in peers if not (way.failed or peer.failed)],
        )
    print("; ".join(f"{name}: {common.version(path)}" for name, path in tools.items()))
    print()
    if any(way.failed for way in ways):
        sys.exit("error: not every finder could be measured")


if __name__ == "__main__":
    sys.exit(main())
