#!/bin/sh
# Print the directory that has prometheus and promtool: the one on PATH, else .cache/prometheus/package/usr/bin, into
# which the distribution's packages are unpacked. Nothing is installed, no service is started, and no root is needed: apt
# verifies the packages as always, but keeps its lists in a directory of its own.
#
# Exit codes: 0 printed, 3 there is none here and none can be had, 5 a step failed (its output is shown).
set -eu
cd "$(dirname "$0")/.."
root=$PWD/.cache/prometheus

has_both() { [ -x "$1/prometheus" ] && [ -x "$1/promtool" ]; }

apt() {
    tool=$1
    shift
    "$tool" "-oDir::State::Lists=$root/lists" "-oDir::Cache=$root/apt" -oAPT::Sandbox::User=root -q "$@"
}

# The scripts of its web pages are packages of their own; its links to them are relative.
of_the_pages() {
    apt apt-cache depends --recurse --important --no-breaks --no-conflicts --no-replaces --no-enhances prometheus |
        grep '^libjs-' | sort -u
}

unpack() {
    apt apt-get update || return
    # shellcheck disable=SC2046  # a list of words
    (cd "$root/downloads" && apt apt-get download prometheus $(of_the_pages)) || return
    for package in "$root"/downloads/*.deb; do
        dpkg-deb -x "$package" "$root/unpacked" || return
    done
    # 200 MB of the time zones of every decade, of which the pages use one file.
    find "$root/unpacked" -path '*/moment-timezone/*' ! -name moment-timezone-with-data.min.js -type f -delete
    rm -rf "$root/package" && mv "$root/unpacked" "$root/package" # whole or not at all
}

if found=$(command -v prometheus) && has_both "$(dirname "$found")"; then
    dirname "$found"
    exit 0
fi
if ! has_both "$root/package/usr/bin"; then
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "get_prometheus: no prometheus and promtool on PATH, and no apt-get to fetch them: install them by hand" >&2
        exit 3
    fi
    rm -rf "$root"
    mkdir -p "$root/lists/partial" "$root/apt/archives/partial" "$root/downloads"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    unpack >"$log" 2>&1 || {
        cat "$log" >&2
        exit 5
    }
    rm -rf "$root/lists" "$root/apt" "$root/downloads"
fi
echo "$root/package/usr/bin"
