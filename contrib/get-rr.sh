#!/bin/sh
# Installs rr from a release, for you alone, and sets it up:
#
#   sh get-rr.sh                      into ~/.local, then `rr setup --yes`
#   sh get-rr.sh --prefix DIR         into DIR/bin and DIR/share
#   sh get-rr.sh --version 0.1.0      not the latest
#   sh get-rr.sh --no-setup           only install
#
# Needs curl or wget, tar, gzip, and sha256sum or shasum: what doesn't match its published SHA-256 is
# not unpacked. RUSTORY_BASE_URL names another place to fetch from. Run again, it upgrades.
set -eu

prefix=${HOME:?HOME is not set}/.local
releases=https://github.com/rustory/rustory/releases
base=$releases/latest/download
setup=yes

fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

here() {
    command -v "$1" >/dev/null 2>&1
}

# Which of the archives is for this machine.
target() {
    case $(uname -s) in
        Linux) system=unknown-linux-gnu ;;
        Darwin) system=apple-darwin ;;
        *) fail "there is no release for $(uname -s)" "build it: $releases/../README.md" ;;
    esac
    case $(uname -m) in
        x86_64 | amd64) processor=x86_64 ;;
        aarch64 | arm64) processor=aarch64 ;;
        *) fail "there is no release for the processor $(uname -m)" 'build it with ./install.sh in a clone' ;;
    esac
    # musl's dynamic linker says who it is; glibc's needs 2.17, of 2012.
    if [ "$system" = unknown-linux-gnu ] && ldd --version 2>&1 | grep -qi musl; then
        fail 'there is no release for Linux with musl' 'build it with ./install.sh in a clone'
    fi
    echo "$processor-$system"
}

# fetch URL FILE
fetch() {
    if here curl; then
        curl --fail --silent --show-error --location --output "$2" "$1"
    elif here wget; then
        wget --quiet --output-document "$2" "$1"
    else
        fail 'neither curl nor wget is here' 'install one of them'
    fi || fail "\`$1\` can't be fetched" 'is the network there, and is there such a release?'
}

sha256() {
    if here sha256sum; then
        sha256sum "$1"
    elif here shasum; then
        shasum -a 256 "$1"
    else
        fail 'neither sha256sum nor shasum is here, and nothing is installed unchecked' 'install coreutils'
    fi | cut -d ' ' -f 1
}

# All in functions, so that a script of which only a part arrived does nothing.
main() {
    while [ $# -gt 0 ]; do
        case $1 in
            --prefix | --version)
                [ $# -ge 2 ] || fail "$1 needs a value"
                case $1 in
                    --prefix) prefix=$2 ;;
                    --version) base=$releases/download/v${2#v} ;;
                esac
                shift
                ;;
            --no-setup) setup=no ;;
            -h | --help)
                echo 'usage: sh get-rr.sh [--prefix DIR] [--version VERSION] [--no-setup]'
                exit 0
                ;;
            *) fail "unknown option \`$1\`" 'sh get-rr.sh --help' ;;
        esac
        shift
    done
    base=${RUSTORY_BASE_URL:-$base}
    name=rustory-$(target)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT

    echo "Fetching $base/$name.tar.gz ..."
    fetch "$base/$name.tar.gz.sha256" "$work/published"
    fetch "$base/$name.tar.gz" "$work/$name.tar.gz"
    published=$(cut -d ' ' -f 1 "$work/published")
    found=$(sha256 "$work/$name.tar.gz")
    [ ${#found} -eq 64 ] || exit 1
    [ "$published" = "$found" ] ||
        fail "the archive is not what was published: its SHA-256 is $found, not $published" \
            'nothing was installed; try again, and if it stays so, tell the project'
    tar -xzf "$work/$name.tar.gz" -C "$work"
    "$work/$name/bin/rr" --version >/dev/null ||
        fail 'the program does not run here' 'build it with ./install.sh in a clone'

    mkdir -p "$prefix/bin" "$prefix/share"
    # In two steps, so that a running rr is replaced and never half a file.
    cp "$work/$name/bin/rr" "$prefix/bin/.rr.new"
    mv -f "$prefix/bin/.rr.new" "$prefix/bin/rr"
    ln -sf rr "$prefix/bin/rustory"
    cp -R "$work/$name/share/." "$prefix/share/"
    echo "Installed $prefix/bin/rr (also as rustory): $("$prefix/bin/rr" --version)."
    if [ "$setup" = yes ]; then
        "$prefix/bin/rr" setup --yes
    fi
}

main "$@"
