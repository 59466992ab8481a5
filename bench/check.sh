#!/usr/bin/env bash
# Checks what the measurements stand on, in a few seconds: that the generated histories are the same
# for the same seed, that they are what they say, and that the shells read them back byte for byte.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "error: $1" >&2
    exit 1
}

python3 generate.py --entries 5000 --seed 7 --out "$work/one" >/dev/null
# Another hash seed: nothing may hang on the order of a set.
PYTHONHASHSEED=1 python3 generate.py --entries 5000 --seed 7 --out "$work/same" >/dev/null
python3 generate.py --entries 5000 --seed 8 --out "$work/other" --only jsonl >/dev/null
diff -r "$work/one" "$work/same" >/dev/null || fail "the same seed gave two histories"
! cmp -s "$work/one/history.jsonl" "$work/other/history.jsonl" || fail "two seeds gave one history"

python3 check.py "$work/one"

if command -v zsh >/dev/null; then
    # What zsh holds after reading the metafied file, newest first, NUL behind each. It takes the last
    # line of the file for the one being typed, so there is one more.
    { cat "$work/one/zsh_extended"; echo ": 1800000000:0;last"; } >"$work/zsh_extended"
    zsh -f -c '
        HISTSIZE=100000
        fc -p
        HISTSIZE=100000
        fc -R "$1"
        zmodload zsh/parameter
        print -rN -- "${(@v)history}"
    ' zsh "$work/zsh_extended" >"$work/zsh"
    python3 check.py "$work/one" zsh "$work/zsh"
else
    echo "zsh is not installed: what it reads is not checked" >&2
fi

# Only with times does bash read commands of several lines back whole; \1 stands where each begins.
# The sizes are given from outside: with bash's own it would shorten the file.
cp "$work/one/bash_timed" "$work/bash_timed"
HISTFILE=$work/bash_timed HISTSIZE=100000 HISTFILESIZE=100000 bash --norc -c '
    HISTTIMEFORMAT=$(printf "\1")
    set -o history
    history
' >"$work/bash"
python3 check.py "$work/one" bash "$work/bash"

python3 screen_check.py
echo "bench: ok"
