#!/bin/sh
# Everything that kmwatch needs on this machine: distribution packages, then .venv/. Safe to run again: seconds.
#
#   scripts/setup.sh          what running kmwatch needs
#   scripts/setup.sh tests    the same, and what the tests need: a C compiler, pytest, ruff, mypy; Prometheus; on Debian
#                             also QEMU, what a kernel module is built with, Chromium, Java, and perf and bpftrace, which
#                             count the same; the tests can do without these
#
# Exit codes: 0 done, 3 this user may not install packages, 5 a step failed (its output is shown).
set -eu
cd "$(dirname "$0")/.."

want=${1:-run}
# The distribution's Python, whatever else is first on PATH: python3-bpfcc installs for this one only.
python=/usr/bin/python3
venv=.venv
stamp=$venv/.kmwatch-setup

say() { echo "setup: $*"; }

stop() {
    code=$1
    shift
    echo "setup: $*" >&2
    exit "$code"
}

# quietly WHAT NEXT COMMAND...: one line for the step; the command's own output only if it fails.
quietly() {
    say "$1"
    next=$2
    shift 2
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        stop 5 "that failed: $next"
    fi
}

# Imports are tried, not package names: that is what counts, and it is the same on every distribution.
# -I: neither PYTHONPATH nor ~/.local may answer instead of the distribution.
has_bcc() { "$python" -I -c 'from bcc import BPF' 2>/dev/null; }
has_venv() { "$python" -I -c 'import ensurepip, venv' 2>/dev/null; }
has_compiler() { echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null; }

missing_packages() {
    if command -v apt-get >/dev/null; then
        bcc=python3-bpfcc venv_package=python3-venv compiler='gcc libc6-dev'
    else
        bcc=python3-bcc venv_package=python3 compiler=gcc
    fi
    has_bcc || printf '%s ' "$bcc"
    has_venv || printf '%s ' "$venv_package"
    [ "$want" != tests ] || has_compiler || printf '%s ' "$compiler"
}

# What tests/guest boots other kernels with, and builds a module for them: for Debian on x86-64 only.
missing_guest_packages() {
    [ "$want" = tests ] && command -v apt-get >/dev/null && [ "$(dpkg --print-architecture)" = amd64 ] &&
        grep -qx 'ID=debian' /etc/os-release || return 0
    while read -r place package; do
        case $place in
        /*) [ -e "$place" ] ;;
        *) command -v "$place" >/dev/null ;;
        esac || printf '%s ' "$package"
    done <<END
qemu-system-x86_64 qemu-system-x86
busybox busybox-static
depmod kmod
setpriv util-linux
make make
gcc gcc
stress-ng stress-ng
ld binutils
/usr/include/stdio.h libc6-dev
/usr/lib/x86_64-linux-gnu/libelf.so.1 libelf1
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
END
}

# What tests/browser opens pages in.
missing_browser_packages() {
    [ "$want" = tests ] && command -v apt-get >/dev/null && grep -qx 'ID=debian' /etc/os-release || return 0
    command -v chromium >/dev/null || echo chromium
}

# What tests/spark runs Apache Spark with.
missing_spark_packages() {
    [ "$want" = tests ] && command -v apt-get >/dev/null && grep -qx 'ID=debian' /etc/os-release || return 0
    command -v java >/dev/null || echo default-jre-headless
}

# What tests/live compares counts with.
missing_witness_packages() {
    [ "$want" = tests ] && command -v apt-get >/dev/null && grep -qx 'ID=debian' /etc/os-release || return 0
    command -v perf >/dev/null || echo linux-perf
    command -v bpftrace >/dev/null || echo bpftrace
}

install_packages() {
    if command -v apt-get >/dev/null; then
        tool='apt-get install -y --no-install-recommends'
    elif command -v dnf >/dev/null; then
        tool='dnf install -y'
    else
        stop 3 "neither apt-get nor dnf here: install BCC's Python module, venv and gcc by hand, then run make again"
    fi
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || stop 3 "packages are missing; as root type: $tool $*"
        sudo=sudo
        sudo -v || stop 3 "packages are missing and sudo refuses; as root type: $tool $*"
    fi
    case $tool in
    apt-get*) quietly "refreshing the package lists" "check the network and /etc/apt" $sudo apt-get -q update ;;
    esac
    # shellcheck disable=SC2086  # $tool and $sudo are words
    quietly "installing $*" "type it by hand to see more: $tool $*" \
        $sudo env DEBIAN_FRONTEND=noninteractive $tool "$@"
}

# install_for TESTS PACKAGE...: what only these tests need.
install_for() {
    tests=$1
    shift
    [ $# = 0 ] || (install_packages "$@") || say "without these some $tests tests are skipped: $*"
}

# All that the contents of .venv depend on.
fingerprint() {
    "$python" -I -c 'import bcc; print(bcc.__file__, bcc.__version__)'
    cat pyproject.toml scripts/setup.sh kmwatch/__init__.py | sha256sum
}

# Made from this Python, at this place (the scripts in .venv/bin carry its path), and finished.
venv_fits() {
    which='import sys; print(sys.version, sys.base_prefix)'
    [ -f "$stamp" ] && grep -qF "$PWD/$venv" "$venv/bin/activate" 2>/dev/null &&
        [ "$("$venv/bin/python" -I -c "import pip; $which" 2>/dev/null)" = "$("$python" -I -c "$which")" ]
}

venv_imports() { "$venv/bin/python" -I -c 'import kmwatch; from bcc import BPF' 2>/dev/null; }

is_done() {
    venv_fits && [ "$(cat "$stamp")" = "$(fingerprint)" ] && venv_imports &&
        { [ "$want" != tests ] || [ -f "$stamp.tests" ]; }
}

build_venv() {
    # `venv --clear` would empty the directory behind a link, which is another checkout's, and only then refuse.
    [ ! -L "$venv" ] || stop 5 "$venv is a link to $(readlink "$venv"): remove the link and run make again"
    if ! venv_fits; then
        quietly "creating $venv from $("$python" -V)" "remove $venv and run make again" "$python" -m venv --clear "$venv"
        # Dependency groups need pip 25.1; Debian 12 and Ubuntu 24.04 have older ones.
        quietly "updating pip in $venv" "check the network and pip's configuration" \
            "$venv/bin/python" -m pip install -q 'pip>=25.1'
    fi
    rm -f "$stamp" "$stamp.tests"
    set -- install -q --editable .
    [ "$want" != tests ] || set -- "$@" --group dev
    quietly "installing kmwatch into $venv" "check the network and pip's configuration" "$venv/bin/python" -m pip "$@"
    # Only bcc: --system-site-packages would let a distribution numpy in that is too old.
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    ln -sfn "$("$python" -I -c 'import bcc, pathlib; print(pathlib.Path(bcc.__file__).parent)')" "$site/bcc"
    venv_imports || stop 5 "$venv cannot import kmwatch or bcc; see: $venv/bin/python -c 'import kmwatch, bcc'"
    [ "$want" != tests ] || : >"$stamp.tests"
    fingerprint >"$stamp"
}

case $want in run | tests) ;; *) stop 2 "unknown argument: $want; use none, or tests" ;; esac
log=$(mktemp)
trap 'rm -f "$log"' EXIT

packages=$(missing_packages)
# shellcheck disable=SC2086  # a list of words
[ -z "$packages" ] || install_packages $packages
# shellcheck disable=SC2046  # lists of words
{
    install_for guest $(missing_guest_packages)
    install_for browser $(missing_browser_packages)
    install_for Spark $(missing_spark_packages)
    install_for witness $(missing_witness_packages)
}
# Unpacked, not installed: see there.
[ "$want" != tests ] || scripts/get_prometheus.sh >/dev/null ||
    say "without Prometheus the monitoring tests are skipped"
has_bcc || stop 5 "$python cannot import bcc although its package is installed; see: $python -c 'import bcc'"
is_done && exit 0
build_venv
say "done: $venv/bin/kmwatch"
