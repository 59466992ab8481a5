#!/usr/bin/env python3
"""What recording costs the prompt: Enter to the next prompt, in real shells in a pseudo-terminal.

bash, zsh and fish, each bare, with rr's hook and with atuin's, opened at the same time; every round types
one command into each of them, in a new order. The command is the builtin `:`, so what is measured is
the shell and its hooks. Processes are counted apart, by strace where it is installed.
"""

import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import common
from pty_run import Program

PROMPT = "ready>"
SHELLS = ("bash", "zsh", "fish")


FISH_RC = f"""
function fish_prompt; printf '{PROMPT} '; end
function fish_title; end
set -g fish_greeting
set -g fish_autosuggestion_enabled 0
"""


def rc_file(shell, home, hook):
    """The rc file: a fixed prompt, a usual history, and the hook as its documentation says."""
    if shell == "fish":
        os.makedirs(os.path.join(home, ".config/fish"))
        with open(os.path.join(home, ".config/fish/config.fish"), "w") as file:
            file.write(FISH_RC + hook + "\n")
        return
    name = {"bash": ".bashrc", "zsh": ".zshrc"}[shell]
    history = {
        "bash": "HISTFILE=~/.bash_history HISTSIZE=10000 HISTCONTROL=ignoreboth\n",
        "zsh": "HISTFILE=~/.zsh_history HISTSIZE=10000 SAVEHIST=10000\nunsetopt PROMPT_SP\n",
    }[shell]
    with open(os.path.join(home, name), "w") as file:
        file.write(f"PS1='{PROMPT} '\n{history}{hook}\n")


class Contender:
    """One shell with one tool's hook."""

    def __init__(self, shell, tool, tools, base):
        self.shell, self.tool = shell, tool
        self.home = os.path.join(base, f"{shell}-{tool}")
        os.makedirs(self.home)
        if tool == "atuin":
            common.atuin_home(self.home)
        load = "{} init fish | source" if shell == "fish" else 'eval "$({} init ' + shell + ')"'
        hook = "" if tool == "bare" else load.format(tools[tool])
        rc_file(shell, self.home, hook)
        # ATUIN_... stay unset; each home has its own databases.
        self.env = common.environment(self.home, tools.values(), SHELL=shutil.which(shell))
        self.argv = [shell, "-i"]
        self.typed = 0
        self.seconds = []
        self.processes = None
        self.cpu_ms = None
        self.program = None

    def open(self, argv_before=()):
        self.program = Program([*argv_before, *self.argv], self.env, cwd=self.home)
        self.program.wait_for(lambda text: PROMPT in text, "the first prompt")
        self.program.settle()

    def run_one(self):
        """Types a command, waits until the shell shows it, then presses Enter: seconds to the prompt."""
        self.typed += 1
        command = f": {self.typed:05}"
        self.program.screen.clear()
        self.program.send(command.encode())
        self.program.wait_for(lambda text: command in text, "the typed command", quiet=0.002)
        self.program.settle(quiet=0.01)
        self.program.screen.clear()
        pressed = self.program.send(b"\r")
        return self.program.wait_for(lambda text: PROMPT in text, "the next prompt", quiet=0.002) - pressed

    def cpu(self):
        """CPU seconds of the shell and of the children that it has waited for."""
        with open(f"/proc/{self.program.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.program.settle()
        self.program.send(b"exit\r")
        self.program.settle(quiet=0.3)
        self.program.end()


def count_processes(contender, commands):
    """Processes and threads started for each command, from strace; None without it."""
    strace = shutil.which("strace")
    if not strace:
        return None
    trace = os.path.join(contender.home, "trace")
    contender.open([strace, "-f", "-qq", "-e", "trace=fork,vfork,clone,clone3", "-o", trace])
    for _ in range(5):
        contender.run_one()
    contender.program.settle(quiet=0.5)
    before = started(trace)
    for _ in range(commands):
        contender.run_one()
    contender.program.settle(quiet=0.5)
    counts = [(after - b) / commands for after, b in zip(started(trace), before)]
    contender.close()
    return counts


def started(trace):
    """(processes, threads) that a trace saw started."""
    processes = threads = 0
    call = re.compile(r"(fork|vfork|clone|clone3)(\(| resumed)(.*)= \d+\s*$")
    thread_flags = set()
    with open(trace, errors="replace") as file:
        for line in file:
            pid = line.split(None, 1)[0]
            if "<unfinished" in line:
                if "CLONE_THREAD" in line:
                    thread_flags.add(pid)
                continue
            if call.search(line):
                if "CLONE_THREAD" in line or pid in thread_flags:
                    threads += 1
                else:
                    processes += 1
            thread_flags.discard(pid)
    return processes, threads


def recorded(contender, tools):
    """How many commands the tool has kept; what is measured must have worked."""
    argv = {
        "rr": [tools.get("rr"), "list", "--limit", "1000000", "--json"],
        "atuin": [tools.get("atuin"), "history", "list", "--cmd-only", "--print0"],
    }[contender.tool]
    env = {**contender.env, "ATUIN_SESSION": "0" * 32}
    run = subprocess.run(argv, env=env, cwd=contender.home, capture_output=True)
    if run.returncode:
        return f"? ({run.stderr.decode(errors='replace').strip()[:100]})"
    return len(set(re.findall(rb": \d{5}", run.stdout)))


def measure(shells, rounds):
    """Interleaved: every round one command in each, in a new order."""
    order = random.Random(1)
    for contender in shells:
        contender.open()
        for _ in range(10):
            contender.run_one()
        contender.before = contender.cpu()
    for count in range(rounds):
        turn = list(shells)
        order.shuffle(turn)
        for contender in turn:
            contender.seconds.append(contender.run_one())
        if count % 100 == 99:
            common.say(f"  {count + 1} of {rounds} commands in each shell")
    for contender in shells:
        contender.program.settle(quiet=0.3)
        contender.cpu_ms = (contender.cpu() - contender.before) * 1000 / rounds
        contender.close()


def row(contender, bare, rr, kept):
    ms = [value * 1000 for value in contender.seconds]
    tenths = statistics.quantiles(ms, n=10)
    added = statistics.median(ms) - statistics.median(v * 1000 for v in bare.seconds)
    ours = rr and statistics.median(v * 1000 for v in rr.seconds) - statistics.median(v * 1000 for v in bare.seconds)
    processes = contender.processes
    return (
        f"{contender.shell}, {contender.tool}",
        f"{statistics.median(ms):.3f}",
        f"{tenths[0]:.3f}-{tenths[-1]:.3f}",
        f"{min(ms):.3f}-{max(ms):.3f}",
        "" if contender is bare else f"{added:+.3f}",
        "" if contender is bare or contender is rr or not ours else common.ratio(ours, added, 3),
        f"{contender.cpu_ms:.2f}",
        "-" if processes is None else f"{processes[0]:.2f} + {processes[1]:.2f}",
        kept,
    )


def main():
    args = common.options(
        __doc__,
        commands=(300, "commands in each shell"),
        traced=(40, "commands in each shell while processes are counted"),
    ).parse_args()
    tools = common.find(args, "rr", "atuin")
    shells = [shell for shell in SHELLS if shutil.which(shell)]
    for shell in set(SHELLS) - set(shells):
        common.say(f"{shell} is not installed: left out")
    with tempfile.TemporaryDirectory(prefix="bench-prompt-") as base:
        contenders = [Contender(shell, tool, tools, base) for shell in shells for tool in ("bare", *tools)]
        measure(contenders, args.commands)
        kept = [recorded(one, tools) if one.tool in tools else "" for one in contenders]
        for contender in contenders:
            contender.processes = count_processes(contender, args.traced)
    print("### Enter to the next prompt\n")
    print(
        f"{args.commands} commands in each shell, interleaved. Milliseconds. \"Added\" is the difference of the "
        "medians to the bare shell. CPU is that of the shell and the processes it waited for.\n"
    )
    by = {(one.shell, one.tool): one for one in contenders}
    common.table(
        ("shell", "median", "p10-p90", "min-max", "added", "rr / peer", "CPU a command",
         "processes + threads a command", "recorded"),
        [
            row(one, by[one.shell, "bare"], by.get((one.shell, "rr")), seen)
            for one, seen in zip(contenders, kept)
        ],
    )  # fmt: skip
    print("; ".join(f"{name}: {common.version(path)}" for name, path in tools.items()))
    print()


if __name__ == "__main__":
    sys.exit(main())
