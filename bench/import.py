#!/usr/bin/env python3
"""How long importing a history takes, and with how much memory: rr and atuin, each into a new home.

Turn and turn about, each run into an empty home; reading the file, writing and committing every row
included. The file is in the page cache.
"""

import os
import shutil
import sys

import common

# What each tool can read; atuin has no reader of its own for JSON lines and takes bash's with times
# or without by itself.
FORMATS = {
    "zsh_extended": ("zsh extended", "zsh", "zsh"),
    "bash_timed": ("bash, with times", "bash", "bash"),
    "bash_untimed": ("bash, without times", "bash", "bash"),
    "jsonl": ("JSON lines", "jsonl", None),
}


def run_rr(program, form, path, home):
    cost = common.Cost([program, "import", form, "--path", path], common.environment(home))
    return cost, common.rr_rows(program, home)


def run_atuin(program, form, path, home):
    common.atuin_home(home)
    env = common.environment(home, HISTFILE=path, SHELL=shutil.which(form) or f"/bin/{form}")
    cost = common.Cost([program, "import", form], env)
    return cost, common.atuin_rows(home)


def fresh(base):
    shutil.rmtree(base, ignore_errors=True)
    os.makedirs(base)
    return base


def warm(path):
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def measure(tools, args, name, costs):
    """One run of each tool; collects what it took under (format, tool)."""
    import generate

    _, rr_form, atuin_form = FORMATS[name]
    file_name = generate.FILES.get(name, name)
    for tool, form, run, entries in (
        ("rr", rr_form, run_rr, args.entries),
        ("atuin", atuin_form, run_atuin, args.atuin_lines or args.entries),
    ):
        if tool not in tools or form is None:
            continue
        directory, _ = common.data(args, entries)
        path = os.path.join(directory, file_name)
        warm(path)
        home = fresh(os.path.join(args.out, "import-home"))
        cost, rows = run(tools[tool], form, path, home)
        shutil.rmtree(home)
        common.say(f"  {name}, {tool}: {cost.wall:.1f} s, {rows:,} rows")
        costs.setdefault((name, tool), []).append((cost, rows, entries))


def rows(tools, costs, wanted):
    for name in wanted:
        ours = common.median(cost.wall / lines for cost, _, lines in costs.get((name, "rr"), []))
        for tool in tools:
            runs = costs.get((name, tool))
            if not runs:
                continue
            per_line = common.median(cost.wall / lines for cost, _, lines in runs)
            yield (
                f"{FORMATS[name][0]}, {tool}",
                f"{runs[0][2]:,}",
                common.spread([cost.wall for cost, _, _ in runs], digits=2),
                common.spread([cost.cpu for cost, _, _ in runs], digits=2),
                common.spread([cost.peak / 1e6 for cost, _, _ in runs], digits=0),
                f"{runs[0][1]:,}",
                f"{per_line * 1e6:.1f}",
                common.ratio(ours, per_line, 3) if tool != "rr" else "",
            )


def main():
    args = common.options(
        __doc__,
        entries=(1_000_000, "entries of the imported history"),
        atuin_lines=(0, "entries that atuin imports instead, to save time (said in the table)"),
        runs=(3, "runs of each"),
        formats=(",".join(FORMATS), "what to import"),
    ).parse_args()
    tools = common.find(args, "rr", "atuin")
    wanted = args.formats.split(",")
    costs = {}
    for _ in range(args.runs):
        for name in wanted:
            measure(tools, args, name, costs)
    print(f"### Import of {args.entries:,} entries\n")
    print("Seconds and MB: median (min-max). The ratio is that of the time for one entry.\n")
    common.table(
        ("format", "entries", "wall s", "CPU s", "peak MB", "rows kept", "µs an entry", "rr / peer"),
        rows(tools, costs, wanted),
    )
    print("; ".join(f"{name}: {common.version(path)}" for name, path in tools.items()))
    print()


if __name__ == "__main__":
    sys.exit(main())
