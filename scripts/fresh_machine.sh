#!/bin/bash
# A stand-in for a fresh machine: debootstrap a Debian, clone this checkout into it, run `make demo` and `make test` there.
# It shares this kernel. Whatever the network needs here (mirror, proxy, certificates, pip's index) is read from this
# machine's own configuration when it runs.
#
#   scripts/fresh_machine.sh trixie|bookworm        KEEP=1 keeps the directory for a look around
#
# Exit codes: 0 both passed, 1 one failed, 2 usage, 3 not root.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:-}
case $suite in bookworm | trixie) ;; *)
    echo "fresh-machine: which Debian? Type: make fresh-machine SUITE=trixie (or bookworm)" >&2
    exit 2
    ;;
esac
if [ "$(id -u)" != 0 ]; then
    echo "fresh-machine: needs root (debootstrap, mount); type: sudo make fresh-machine SUITE=$suite" >&2
    exit 3
fi
# In a mount namespace of its own the machine never sees our mounts, and they end with us even after kill -9.
if [ -z "${KMWATCH_FRESH_NAMESPACE:-}" ]; then
    KMWATCH_FRESH_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi

say() { echo "fresh-machine: $*"; }

root=$(mktemp -d "${TMPDIR:-/tmp}/kmwatch-$suite.XXXXXX")
chmod 755 "$root" # mktemp lets only root in; apt and others drop to users of their own
debs=$PWD/.cache/debootstrap/$suite

# shellcheck disable=SC2317  # the trap calls it
finish() {
    if mountpoint -q "$root"; then umount --recursive --lazy "$root"; fi
    if [ -n "${KEEP:-}" ]; then say "kept: $root"; else rm -rf --one-file-system "$root"; fi
}
trap finish EXIT

inside() { # with nothing of this machine's environment but its proxies
    local proxies
    mapfile -t proxies < <(env | grep -iE '^(https?|ftp|all|no)_proxy=' || true)
    env -i "${proxies[@]}" HOME=/root TERM="${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        KMWATCH_REQUIRE=live chroot "$root" sh -c "$1"
}

make_debian() {
    if ! command -v debootstrap >/dev/null || [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        say "installing debootstrap"
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap debian-archive-keyring >/dev/null
    fi
    # The mirror that apt uses here; without one (this is not a Debian) debootstrap's own default.
    local mirror
    # shellcheck disable=SC2016  # $(LABEL) is apt's
    mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" { print $2; exit }')
    say "debootstrap $suite, about a minute"
    mkdir -p "$debs"
    debootstrap --variant=minbase --cache-dir="$debs" --include=ca-certificates,make,git "$suite" "$root" ${mirror:+"$mirror"} \
        >"$root.log" 2>&1 || { tail -20 "$root.log" >&2; say "debootstrap failed: $root.log"; exit 1; }
    rm "$root.log"
}

carry_network() {
    apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date)' >"$root/etc/apt/apt.conf.d/90host" || true
    cp /etc/hosts /etc/resolv.conf "$root/etc/"
    if compgen -G '/usr/local/share/ca-certificates/*' >/dev/null; then
        cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
        inside update-ca-certificates >/dev/null 2>&1
    fi
    # pip's index as configured here. Directories of this machine stay out: a fresh machine has none.
    {
        echo '[global]'
        echo 'cert = /etc/ssl/certs/ca-certificates.crt'
        /usr/bin/env python3 -m pip config list 2>/dev/null | tr -d "'" |
            sed -nE 's/^(global|install|:env:)\.(index-url|extra-index-url|trusted-host|proxy|timeout|default-timeout)=/\2=/p' |
            grep -v 'file:' || true
    } >"$root/etc/pip.conf"
}

mount_kernel() {
    mount --bind "$root" "$root" # a root that is a mount point, as a machine's is: tests make mount namespaces
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys" # without tracefs, as after a fresh boot
    mount --rbind /dev "$root/dev"
}

copy_checkout() {
    if [ -n "$(git status --porcelain)" ]; then say "uncommitted changes are not tested: this clones HEAD"; fi
    git clone -q --no-hardlinks . "$root/root/kmwatch"
    say "testing $(git log -1 --format='%h %s')"
}

verdict() { # NAME COMMAND: runs it, adds a line to the summary
    local begin=$SECONDS result=passed
    say "$2"
    inside "cd /root/kmwatch && $2" || { result=FAILED; failed=1; }
    summary+=("$(printf '%-9s %s in %d s' "$1" "$result" $((SECONDS - begin)))")
}

failed=0
summary=()
make_debian
mount_kernel
carry_network
copy_checkout
verdict demo 'make demo </dev/null'
verdict again 'make setup'
verdict test 'make test'
say "summary for $suite: $(inside '/usr/bin/python3 -V; /usr/bin/python3 -c "import bcc; print(\"BCC\", bcc.__version__)"' | paste -sd ' ')"
printf '  %s\n' "${summary[@]}"
exit "$failed"
