#!/usr/bin/env python3
"""How many bytes a row takes on disk after an import of zsh's and of rr's richest form.

Each database with all its indexes, after its write-ahead log was moved into it; atuin's record log,
which it keeps besides its database, is given apart.
"""

import os
import shutil
import sys

import common


def rr_size(program, home):
    path = os.path.join(home, ".rustory/history.db")
    common.checkpoint(path)
    return common.rr_rows(program, home), common.database_bytes(path), None


def atuin_size(home):
    paths = [common.atuin_database(home, name) for name in ("history.db", "records.db")]
    common.checkpoint(*paths)
    return common.atuin_rows(home), *map(common.database_bytes, paths)


def measure(args, tools):
    directory, _ = common.data(args, args.entries)
    home = os.path.join(args.out, "disk-home")
    for label, tool, file, run in (
        ("zsh extended, rr", "rr", "zsh_extended", ["import", "zsh", "--path"]),
        ("JSON lines (directory, exit code, session known), rr", "rr", "history.jsonl", ["import", "jsonl", "--path"]),
        ("zsh extended, atuin", "atuin", "zsh_extended", ["import", "zsh"]),
    ):
        if tool not in tools:
            continue
        path = os.path.join(directory, file)
        shutil.rmtree(home, ignore_errors=True)
        os.makedirs(home)
        if tool == "rr":
            common.Cost([tools[tool], *run, path], common.environment(home))
            yield label, rr_size(tools[tool], home)
        else:
            common.atuin_home(home)
            common.Cost([tools[tool], *run], common.environment(home, HISTFILE=path, SHELL="/usr/bin/zsh"))
            yield label, atuin_size(home)
        shutil.rmtree(home)


def main():
    args = common.options(__doc__, entries=(1_000_000, "entries of the imported history")).parse_args()
    tools = common.find(args, "rr", "atuin")
    sizes = dict(measure(args, tools))
    print(f"### Size on disk, {args.entries:,} entries\n")
    peer = next((size / count for label, (count, size, _) in sizes.items() if label.endswith("atuin")), None)
    common.table(
        ("what was imported", "rows", "MB", "bytes a row", "of that the commands' text", "record log MB", "rr / peer"),
        [
            (
                label,
                f"{count:,}",
                f"{size / 1e6:.1f}",
                f"{size / count:.1f}",
                f"{common.data(args, args.entries)[1]['command_bytes_mean']:.1f}",
                "" if log is None else f"{log / 1e6:.1f}",
                common.ratio(size / count, peer) if label.endswith("rr") else "",
            )
            for label, (count, size, log) in sizes.items()
        ],
    )
    print("; ".join(f"{name}: {common.version(path)}" for name, path in tools.items()))
    print()


if __name__ == "__main__":
    sys.exit(main())
