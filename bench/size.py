#!/usr/bin/env python3
"""What the release binary consists of: bytes by section, and by the crate that the code came from.

    bench/size.py                    builds it with symbols (below target/size, some minutes) and prints both
    bench/size.py --binary FILE      of a program that has its symbols
    bench/size.py --max 8000000      exit code 1 if the stripped program is larger

Code that one crate has compiled for another's types counts for the crate that has the code.
"""

import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SQLITE, ZSTD = "sqlite (C)", "zstd (C)"
STD = {"std", "core", "alloc", "compiler_builtins", "gimli", "addr2line", "miniz_oxide", "rustc_demangle", "object"}


def build():
    environment = dict(os.environ, CARGO_PROFILE_RELEASE_STRIP="none")
    command = ["cargo", "build", "--release", "--locked", "-p", "rustory", "--target-dir", "target/size"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return ROOT / "target/size/release/rr"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def stripped_bytes(binary):
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["strip", "-s", "-o", file.name, binary], check=True)
        return os.path.getsize(file.name)


def sections(binary):
    """Name and bytes of each section that is loaded or stays when the program is stripped."""
    for line in output("readelf", "-SW", binary).splitlines():
        found = re.match(r"\s*\[ *\d+\] (\.\S+)\s+(\S+)\s+\w+ \w+ (\w+)", line)
        if found and found[2] != "NOBITS" and found[1] not in (".symtab", ".strtab", ".shstrtab"):
            yield found[1], int(found[3], 16)


def crates(binary):
    """Bytes of code by crate."""
    sizes = collections.Counter()
    symbols = []
    file = ""
    for line in output("readelf", "-sW", binary).splitlines():
        fields = line.split()
        if len(fields) == 8 and fields[3] == "FILE":
            file = fields[7]
        elif len(fields) >= 8 and fields[3] == "FUNC" and int(fields[2], 0):
            symbols.append((fields[7], int(fields[2], 0), fields[1], file))
    names = subprocess.run(
        ["c++filt"], input="\n".join(name for name, *_ in symbols), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    seen = set()
    for (raw, size, address, file), name in zip(symbols, names):
        # Functions with the same code may have been put into one.
        if address not in seen:
            seen.add(address)
            sizes[crate(raw, name, file)] += size
    return sizes


def crate(raw, name, file):
    if raw.startswith(("_ZN", "_R")):
        # `<a::B as c::D>::e` is a's; `<&a::B>` and `<[a::B]>` too. Lifetimes and `dyn` are in the way.
        path = re.search(r"(?:^|[<&( \[*])([a-z_][a-z0-9_]*)(?:\[[0-9a-f]+\])?::", name)
        found = path[1] if path else "?"
        return "std" if found in STD else found
    if "sqlite" in file or "sqlite3" in raw:
        return SQLITE
    if re.match(r"(ZSTD|HUF|FSE|HIST|ZDICT|XXH|POOL|COVER)", raw) or re.match(r"(zstd|huf|fse|hist|entropy)_?", file):
        return ZSTD
    return "other C"


def table(rows, total, unit="of the whole"):
    for name, size in rows:
        print(f"{size:>10,}  {100 * size / total:5.1f} %  {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--max", type=int, metavar="BYTES")
    parser.add_argument("--top", type=int, default=40, metavar="N", help="how many crates are listed (40)")
    args = parser.parse_args()
    binary = args.binary or build()
    total = stripped_bytes(binary)
    print(f"{total:>10,}  bytes, stripped\n")
    table(sorted(sections(binary), key=lambda row: -row[1])[:12], total)
    code = crates(binary)
    if code:
        print("\ncode by crate")
        table(code.most_common(args.top), total)
        rest = sum(size for _, size in code.most_common()[args.top :])
        print(f"{rest:>10,}           {max(0, len(code) - args.top)} others")
    if args.max and total > args.max:
        sys.exit(f"error: {total:,} bytes are more than {args.max:,}")


if __name__ == "__main__":
    main()
