#!/bin/sh
# Builds Rustory from this clone, installs it for you alone, and sets it up:
#
#   ./install.sh                      into ~/.local/bin, then `rr setup --yes`
#   ./install.sh --prefix DIR         into DIR/bin
#   ./install.sh --no-setup           only build and install
#
# Needs Rust and a C compiler (for SQLite), and no other program. Run again, it upgrades.
set -eu

prefix=${HOME:?HOME is not set}/.local
setup=yes

fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --prefix)
            [ $# -ge 2 ] || fail '--prefix needs a directory'
            prefix=$2
            shift
            ;;
        --no-setup) setup=no ;;
        -h | --help)
            sed -n '2,8s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) fail "unknown option \`$1\`" './install.sh --help' ;;
    esac
    shift
done

here=$(cd "$(dirname "$0")" && pwd)
[ -f "$here/Cargo.lock" ] || fail "\`$here\` is no clone of Rustory" 'run install.sh where it lies in the clone'

# rustup puts cargo here, and a shell that was opened before does not know yet.
command -v cargo >/dev/null 2>&1 || PATH=$PATH:$HOME/.cargo/bin
command -v cargo >/dev/null 2>&1 ||
    fail 'cargo is not here' 'install Rust: https://rustup.rs, or your distribution'"'"'s package if it is new enough'
command -v cc >/dev/null 2>&1 ||
    fail 'there is no C compiler (cc)' 'on Debian: apt-get install gcc libc6-dev'

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/Cargo.toml")
have=$(rustc --version | cut -d ' ' -f 2)
older=$(printf '%s\n%s\n' "$wanted" "${have%%-*}" | sort -V | head -n 1)
[ "$older" = "$wanted" ] ||
    fail "Rust $have is too old, $wanted is needed" 'rustup update'

echo "Building rr (a few minutes the first time) ..."
cargo build --release --locked --manifest-path "$here/Cargo.toml" -p rustory
target=$(cargo metadata --format-version 1 --no-deps --manifest-path "$here/Cargo.toml" |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

mkdir -p "$prefix/bin"
# In two steps, so that a running rr is replaced and never half a file.
cp "$target/release/rr" "$prefix/bin/.rr.new"
mv -f "$prefix/bin/.rr.new" "$prefix/bin/rr"
ln -sf rr "$prefix/bin/rustory"
"$prefix/bin/rr" generate share "$prefix/share"
echo "Installed $prefix/bin/rr (also as rustory), its man page and completions."

if [ "$setup" = yes ]; then
    "$prefix/bin/rr" setup --yes
fi
