#!/usr/bin/env python3
"""Checks a generated history: counts, forms, probes, and what a shell has read back of it."""

import json
import os
import re
import sys


def need(condition, what):
    if not condition:
        sys.exit(f"error: {what}")


def typed(directory):
    """Every command in the order typed, as bytes."""
    with open(os.path.join(directory, "history.jsonl"), "rb") as file:
        return [json.loads(line) for line in file]


def nul_separated(directory, name):
    with open(os.path.join(directory, name), "rb") as file:
        parts = file.read().split(b"\0")
    need(parts.pop() == b"", f"{name} does not end with NUL")
    return parts


def forms(directory):
    with open(os.path.join(directory, "manifest.json")) as file:
        manifest = json.load(file)
    entries = typed(directory)
    commands = [entry["cmd"].encode() for entry in entries]
    need(len(entries) == manifest["entries"], "another number of entries than asked for")
    need(len(set(commands)) == manifest["distinct"], "another number of distinct commands than the manifest's")
    need(commands[-1].decode() == manifest["newest"], "the newest command is not last")
    times = [entry["ts"] for entry in entries]
    need(times == sorted(times), "times go back")
    need(nul_separated(directory, "history.nul") == commands[::-1], "history.nul is not the reverse")
    newest_first = list(dict.fromkeys(commands[::-1]))
    need(nul_separated(directory, "commands.nul") == newest_first, "commands.nul is not what is distinct")
    with open(os.path.join(directory, "bash_untimed"), "rb") as file:
        need(file.read() == b"".join(command + b"\n" for command in commands), "bash_untimed differs")
    for name, size in manifest["bytes"].items():
        need(os.path.getsize(os.path.join(directory, name)) == size, f"{name}: another size than the manifest's")
    joined = b"\0".join(commands)
    for what in ("\n", "\t", "배포", "🚀", "\\\n", "<<'EOF'", "\u1112\u1161\u11ab"):
        need(what.encode() in joined, f"no command has {what!r}")
    lengths = sorted(map(len, commands))
    need(lengths[-1] == 65536 and any(1024 <= n <= 8192 for n in lengths), "long lines are missing")
    probes(manifest, newest_first)
    return commands


def probes(manifest, commands):
    """The probe words match only what was planted, even as scattered letters."""
    for probe in manifest["probes"].values():
        word = probe["query"]
        found = fuzzy(word, commands)
        need(found == [probe["target"].encode()], f"`{word}` matches {found[:3]}")
        misses = [c for c in fuzzy(word[:-1], commands) if re.search(rf"{word[:-1]}\d\d".encode(), c)]
        need(len(misses) > 60, f"only {len(misses)} commands nearly match `{word}`")


def fuzzy(word, commands):
    """The commands that have the word's letters in their order."""
    found = []
    for command in commands:
        text, at = command.lower(), 0
        for letter in word.encode():
            at = text.find(letter, at) + 1
            if not at:
                break
        else:
            found.append(command)
    return found


def read_back(commands, shell, path):
    with open(path, "rb") as file:
        data = file.read()
    if shell == "zsh":
        parts = data.split(b"\0")[:-1][::-1]
    else:
        # The line's number stands before each beginning, so behind the one before.
        parts = [re.sub(rb"\n *\d*\*? *$", b"", part) for part in data.split(b"\1")[1:]]
        # Last comes the call of `history` itself.
        del parts[len(commands) :]
        # Empty lines are in bash's file, but not in what it reads of it.
        commands = [re.sub(rb"\n\n+", b"\n", command) for command in commands]
    need(len(parts) == len(commands), f"{shell} read {len(parts)} of {len(commands)} commands")
    for number, (wanted, got) in enumerate(zip(commands, parts)):
        need(wanted == got, f"{shell} read entry {number} as {got[:200]!r}, typed was {wanted[:200]!r}")


def main():
    directory, *shell = sys.argv[1:]
    if shell:
        read_back([entry["cmd"].encode() for entry in typed(directory)], *shell)
    else:
        forms(directory)


if __name__ == "__main__":
    main()
