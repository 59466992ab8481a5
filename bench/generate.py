#!/usr/bin/env python3
"""Writes a made-up but realistic shell history in every form that the measurements read.

    bench/generate.py --entries 100000 --seed 1 --out DIR [--only jsonl,zsh]

The same seed and number of entries give the same bytes, on every machine and with every Python:
all chance comes from `random.random()`, whose sequence Python guarantees.

Written into DIR, each in one pass and in the order typed:

    history.jsonl   JSON lines as `rr import jsonl` reads them
    bash_timed      bash's history file with HISTTIMEFORMAT set (`#seconds` before each command)
    bash_untimed    the same without times
    zsh_extended    zsh's EXTENDED_HISTORY file, metafied as zsh writes it
    commands.nul    distinct commands, newest first, NUL behind each: what a fuzzy finder is given
    history.nul     the same with every repetition
    manifest.json   counts, sizes, and the probes that `finder.py` looks for

How often commands repeat follows what is seen in real histories: the number of distinct commands
grows as n**0.85 (1,000,000 entries have about 176,000), what is repeated is chosen by how often it
was used before, which gives a Zipf-like head, and by how recently.
"""

import argparse
import calendar
import json
import os
import random
import sys
import time
from array import array

import words

FORMATS = ("jsonl", "bash_timed", "bash_untimed", "zsh_extended", "commands", "entries")
FILES = {"jsonl": "history.jsonl", "commands": "commands.nul", "entries": "history.nul"}
NEWEST_FIRST = ("commands", "entries")

# Distinct commands among n entries: HEAPS_SCALE * n ** HEAPS_POWER.
HEAPS_POWER = 0.85
HEAPS_SCALE = 176_000 / 1_000_000**HEAPS_POWER

# When the history ends. Its length in days grows with the entries, from two years upwards.
END = calendar.timegm((2025, 12, 31, 20, 0, 0))
ENTRIES_A_DAY = 342
DAYS_MIN = 730

HOSTS = ("desk", "laptop", "nas")

# The words that `finder.py` types. Nothing else in a history has their letters in this order (see
# `words.py`: long lines are made of letters that these words do not consist of), so that a fuzzy
# match of the whole word is a match of the planted command alone.
#
# A probe is one old command that has the word, and newer ones that have all of it but the last
# letter: more than a screen is high. So before the last key the screen is full of the latter, and
# after it only the former is left.
PROBES = {
    # Among all entries the very old one: finding it takes reading everything.
    "old": "quetzal",
    # Among the latest 100,000 entries the oldest: for finders that go no further by default.
    "recent": "mezquit",
}
NEAR_MISSES = 72
RECENT_ENTRIES = 90_000

NEWEST = "echo newest-of-all 4f1c7e"


def plan_probes(entries):
    """What is planted where: {position: command}, and the description for the manifest."""
    planted, described = {}, {}
    starts = {"old": entries * 3 // 100, "recent": max(entries * 12 // 100, entries - RECENT_ENTRIES)}
    for name, word in PROBES.items():
        target = f"make {word} && run {word}"
        # Of the target's length, so that finders which sort by length rank them alike.
        misses = [f"make {word[:-1]}{k:02} && run {word[:-1]}" for k in range(NEAR_MISSES)]
        planted[starts[name]] = target
        for k, miss in enumerate(misses):
            planted[starts[name] + (k + 1) * max(1, entries // 2000)] = miss
        described[name] = {"query": word, "target": target, "near_miss": f"make {word[:-1]}"}
    return planted, described


def plan_specimens(entries, grammar):
    """One of each unusual thing, so that the smallest history has them too."""
    unusual = grammar.specimens()
    return {entries * 40 // 100 + k: command for k, command in enumerate(unusual)}


class Commands:
    """The sequence of commands: new ones, and those that are used again."""

    def __init__(self, entries, rng):
        self.entries = entries
        self.chance = rng.random
        self.grammar = words.Grammar(rng.random)
        self.texts = []  # every distinct command, by its number
        self.numbers = {}  # text -> number
        self.used = array("I")  # the numbers of repeatable commands, once for each use
        self.planted, self.probes = plan_probes(entries)
        for position, command in plan_specimens(entries, self.grammar).items():
            while position in self.planted:
                position += 1
            self.planted[position] = command
        self.planted[entries - 1] = NEWEST

    def __iter__(self):
        """Yields the number of the command of each entry in turn."""
        new_share = HEAPS_SCALE * HEAPS_POWER
        chance, used = self.chance, self.used
        for position in range(self.entries):
            if position in self.planted:
                yield self.number_of(self.planted[position])
                continue
            if not used or chance() < new_share * (position + 1) ** (HEAPS_POWER - 1):
                number = self.new()
            else:
                number = self.again()
            if len(self.texts[number]) < 1000:
                used.append(number)
            yield number

    def number_of(self, text):
        number = self.numbers.get(text)
        if number is None:
            number = self.numbers[text] = len(self.texts)
            self.texts.append(text)
        return number

    def new(self):
        """A command that was never used."""
        while True:
            text = self.grammar.command()
            if text not in self.numbers:
                return self.number_of(text)

    def again(self):
        used, chance = self.used, self.chance
        if chance() < 0.35:
            # What was done a moment ago is done again: edit, build, test.
            return used[-1 - int(chance() * min(len(used), 60))]
        return used[int(chance() * len(used))]


class Sessions:
    """Who typed a command: one of a few open shells, each with its host and directory."""

    OPEN = 5
    COMMANDS_MEAN = 45

    def __init__(self, rng):
        self.chance = rng.random
        self.directories = words.directories(rng.random)
        self.open = [self.start() for _ in range(self.OPEN)]
        self.latest = 0

    def start(self):
        chance = self.chance
        shell = "zsh" if chance() < 0.6 else "bash"
        name = "".join("0123456789abcdef"[int(chance() * 16)] for _ in range(16))
        return [name, shell, HOSTS[min(int(chance() * 4), 2)], self.directory()]

    def directory(self):
        # Squared: some projects see most of the work.
        return self.directories[int(self.chance() ** 2 * len(self.directories))]

    def next(self, text):
        chance = self.chance
        if chance() < 0.15:
            self.latest = int(chance() * self.OPEN)
        if chance() < 1 / self.COMMANDS_MEAN:
            self.open[self.latest] = self.start()
        session = self.open[self.latest]
        if text.startswith("cd "):
            before = session[3]
            session[3] = self.directory()
            return session[0], session[1], session[2], before
        return session


class Times:
    """Start, duration and exit code of each command."""

    def __init__(self, entries, rng):
        days = max(DAYS_MIN, entries / ENTRIES_A_DAY)
        self.gap_s = days * 86400 / entries
        self.now_us = int((END - days * 86400) * 1_000_000)
        self.chance = rng.random

    def next(self):
        chance = self.chance
        # Four of five follow within a moment; the fifth after a pause that keeps the mean.
        if chance() < 0.8:
            gap = chance() * min(60, self.gap_s)
        else:
            gap = 2 * chance() * (self.gap_s - 0.4 * min(60, self.gap_s)) * 5
        self.now_us += int(gap * 1_000_000) + 1
        return self.now_us

    def outcome(self):
        """(exit code, duration in ms); None is not known."""
        chance = self.chance
        duration = int(10 ** (chance() * 2.2)) if chance() < 0.85 else int(10 ** (chance() * 4.5 + 1))
        spread = chance()
        if spread < 0.90:
            return 0, duration
        if spread < 0.97:
            return 1, duration
        if spread < 0.995:
            return (2, 101, 126, 127, 128, 130, 137, 143)[int(chance() * 8)], duration
        return None, None


def metafy(raw):
    """As zsh keeps bytes that have a meaning of their own inside it: 0x83, then the byte ^ 0x20."""
    if not any(0x83 <= byte <= 0xA2 or byte == 0 for byte in raw):
        return raw
    out = bytearray()
    for byte in raw:
        if 0x83 <= byte <= 0xA2 or byte == 0:
            out += bytes((0x83, byte ^ 0x20))
        else:
            out.append(byte)
    return bytes(out)


class Writers:
    """The files of one history; what depends on the command alone is made once for each."""

    def __init__(self, out, formats):
        self.files = {}
        for name in formats:
            if name not in NEWEST_FIRST:
                self.files[name] = open(os.path.join(out, FILES.get(name, name)), "wb", 1 << 20)
        self.json, self.plain, self.zsh = [], [], []
        self.seconds, self.stamp = None, ""

    def learn(self, text):
        raw = text.encode()
        self.json.append(json.dumps(text, ensure_ascii=False))
        self.plain.append(raw + b"\n")
        self.zsh.append(metafy(raw.replace(b"\n", b"\\\n")) + b"\n")

    def entry(self, number, ts_us, outcome, session):
        seconds, micros = divmod(ts_us, 1_000_000)
        exit_code, duration = outcome
        files = self.files
        if "jsonl" in files:
            files["jsonl"].write(self.json_line(number, seconds, micros, outcome, session).encode())
        if "bash_timed" in files:
            files["bash_timed"].write(b"#%d\n" % seconds + self.plain[number])
        if "bash_untimed" in files:
            files["bash_untimed"].write(self.plain[number])
        if "zsh_extended" in files:
            head = b": %d:%d;" % (seconds, (duration or 0) // 1000)
            files["zsh_extended"].write(head + self.zsh[number])

    def json_line(self, number, seconds, micros, outcome, session):
        exit_code = "null" if outcome[0] is None else outcome[0]
        duration = "null" if outcome[1] is None else outcome[1]
        if seconds != self.seconds:
            self.seconds = seconds
            self.stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        name, shell, host, cwd = session
        return (
            f'{{"ts":"{self.stamp}.{micros:06}Z","cmd":{self.json[number]},"cwd":{json.dumps(cwd, ensure_ascii=False)},'
            f'"exit_code":{exit_code},"duration_ms":{duration},"shell":"{shell}","hostname":"{host}",'
            f'"session":"{name}"}}\n'
        )

    def close(self):
        for file in self.files.values():
            file.close()


def write_newest_first(out, formats, texts, typed):
    """The forms that begin with what was typed last; `typed` has the number of every entry's command."""
    if "entries" in formats:
        write_nul(os.path.join(out, FILES["entries"]), texts, reversed(typed))
    if "commands" in formats:
        write_nul(os.path.join(out, FILES["commands"]), texts, dict.fromkeys(reversed(typed)))


def write_nul(path, texts, numbers):
    with open(path, "wb", 1 << 20) as file:
        for number in numbers:
            file.write(texts[number].encode() + b"\0")


def generate(entries, seed, out, formats=FORMATS):
    """Writes the files and returns the manifest."""
    os.makedirs(out, exist_ok=True)
    rng = random.Random(seed)
    commands, sessions, times = Commands(entries, rng), Sessions(rng), Times(entries, rng)
    writers = Writers(out, formats)
    typed = array("I")
    seen = {"sessions": set(), "directories": set()}
    length = multi_line = non_ascii = long_lines = 0
    texts = commands.texts
    first_ts = None
    for number in commands:
        if number == len(writers.plain):
            writers.learn(texts[number])
        text = texts[number]
        session = sessions.next(text)
        ts = times.next()
        first_ts = first_ts or ts
        writers.entry(number, ts, times.outcome(), session)
        typed.append(number)
        length += len(writers.plain[number]) - 1
        multi_line += "\n" in text
        non_ascii += not text.isascii()
        long_lines += len(text) >= 1000
        seen["sessions"].add(session[0])
        seen["directories"].add(session[3])
    writers.close()
    write_newest_first(out, formats, texts, typed)
    return {
        "entries": entries,
        "seed": seed,
        "distinct": len(texts),
        "command_bytes_mean": round(length / entries, 2),
        "multi_line": multi_line,
        "non_ascii": non_ascii,
        "long_lines": long_lines,
        "sessions": len(seen["sessions"]),
        "directories": len(seen["directories"]),
        "first_ts_us": first_ts,
        "last_ts_us": times.now_us,
        "newest": NEWEST,
        "probes": commands.probes,
        "bytes": {
            FILES.get(name, name): os.path.getsize(os.path.join(out, FILES.get(name, name)))
            for name in formats
        },
    }


def ensure(entries, seed, out):
    """The manifest of the history in `out`, written first where it is not there yet."""
    path = os.path.join(out, "manifest.json")
    try:
        with open(path) as file:
            manifest = json.load(file)
        if (manifest["entries"], manifest["seed"]) == (entries, seed) and len(manifest["bytes"]) == len(FORMATS):
            return manifest
    except (OSError, ValueError, KeyError):
        pass
    print(f"generating {entries:,} entries into {out}", file=sys.stderr)
    return write(entries, seed, out, FORMATS)


def write(entries, seed, out, formats):
    manifest = generate(entries, seed, out, formats)
    # Last, and in one step: a directory with a manifest is complete.
    path = os.path.join(out, "manifest.json")
    with open(path + ".tmp", "w") as file:
        json.dump(manifest, file, indent=2)
        file.write("\n")
    os.replace(path + ".tmp", path)
    return manifest


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True, help="directory to write into")
    parser.add_argument("--only", help=f"some of {','.join(FORMATS)}")
    args = parser.parse_args()
    formats = tuple(args.only.split(",")) if args.only else FORMATS
    if unknown := set(formats) - set(FORMATS):
        parser.error(f"unknown format {', '.join(sorted(unknown))}; there are {', '.join(FORMATS)}")
    if args.entries < 1000:
        parser.error("--entries: at least 1000, for the probes to fit")
    manifest = write(args.entries, args.seed, args.out, formats)
    json.dump(manifest, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
