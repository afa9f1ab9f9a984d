"""A guest for one command: a stock kernel under QEMU, on a throw-away view of this machine's own file system.

The guest sees all of the host's files read-only through 9p; what it writes goes to memory. Its output and exit code
come back through a directory that both share, so that nothing is lost when the kernel dies. QEMU emulates the
processor: what is under test is the kernel, and nested virtualisation is not to be had everywhere.
"""

import lzma
import os
import re
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.guest.kernels import CACHE, Kernel

_BOOT_SECONDS = 60.0
_TRIES = 3  # a boot that hangs is tried again
_POLL = 0.05
_TAIL = 4000  # characters; an oops with its registers and stack has about as many
_CRASH = re.compile(r"BUG: |kernel BUG at |Oops: |Kernel panic|general protection fault|Internal error")
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
# Without the HPET some boots wait for a timer tick that never comes.
_MACHINE = "q35,smm=off,vmport=off,sata=off,smbus=off,i8042=off,usb=off"
# KMWATCH_ACCEL=kvm where that is to be had: it is not everywhere, and a guest that never prints a line looks like ours.
# One thread for all of a guest's processors: with several, one can meet an int3 of the kernel's text patching that
# another has already taken back, and the kernel dies of it.
_ACCEL = os.environ.get("KMWATCH_ACCEL", "tcg,thread=single")
# TCG does `rep stosb` byte by byte; page tables of four levels are cheaper than of five.
_CPU = "max,erms=off,la57=off"
# On a busy host an emulated processor stands still for longer than the kernel's watchdogs allow.
_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 oops=panic init_on_alloc=0 mitigations=off selinux=0 apparmor=0 audit=0"
    " nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
    " cryptomgr.notests tsc=reliable no_timer_check random.trust_cpu=on rcupdate.rcu_expedited=1"
)
_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
for module in $($b cat /modules/order); do $b insmod /modules/$module; done
$b mount -t devtmpfs dev /dev
$b mount -t sysfs sys /sys
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /lower
$b mount -t tmpfs -o size=75% upper /upper
$b mkdir /upper/files /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /root
for each in proc sys dev; do $b mount --move /$each /root/$each; done
$b mkdir -p /root/dev/shm /root/dev/pts /root/run/guest
$b mount -t tmpfs shm /root/dev/shm
$b mount -t devpts pts /root/dev/pts
$b mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
$b mount -t debugfs debugfs /root/sys/kernel/debug
$b mount -t tracefs tracefs /root/sys/kernel/tracing
$b ifconfig lo 127.0.0.1 up
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none share /root/run/guest
exec $b switch_root /root /bin/sh /run/guest/script
"""
_SCRIPT = """export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 KMWATCH_RESULTS=/run/guest/results
: > /run/guest/booted
mkdir -p /lib/modules/{release}
mount --bind {modules} /lib/modules/{release}
cd {directory}
sh /run/guest/command < /dev/null > /run/guest/output 2>&1
echo $? > /run/guest/code.new
dmesg > /run/guest/log
mv /run/guest/code.new /run/guest/code
while :; do sleep 9; done
"""


class GuestError(Exception):
    """The guest did not boot, died or did not end; the message has the end of its console."""


@dataclass(frozen=True)
class Guest:
    """What a guest is given: memory as QEMU takes it, CPUs, and the seconds after which it is ended.

    below_4g: how much of the memory has addresses below 4 GiB at most; what is left is zone Normal.
    """

    memory: str = "1G"
    cpus: int = 2
    seconds: float = 900.0
    below_4g: str = "2G"


@dataclass(frozen=True)
class Ended:
    """What the command left: its exit code, its output and errors as one text, and the kernel's log."""

    code: int
    output: str
    log: str


def run(kernel: Kernel, command: str, directory: Path, guest: Guest, results: Path, stop: threading.Event) -> Ended:
    """Boot, run a command of the shell in a directory of the host, and end the guest.

    What the command leaves in the directory that KMWATCH_RESULTS names is copied to `results`, whatever became of it.
    Raises GuestError for a guest that does not boot, dies, takes too long, or is told to stop.
    """
    initrd = _initrd(kernel)
    for last in (False,) * (_TRIES - 1) + (True,):
        with tempfile.TemporaryDirectory(prefix="kmwatch-guest-") as shared:
            share = Path(shared)
            script = _SCRIPT.format(release=kernel.release, modules=kernel.modules, directory=directory)
            (share / "script").write_text(script)
            (share / "command").write_text(command + "\n")
            (share / "results").mkdir()
            with (share / "qemu.log").open("wb") as log:
                qemu = subprocess.Popen(
                    _argv(kernel, initrd, share, guest), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            try:
                ended = _watch(qemu, share, guest.seconds, stop)
            finally:
                qemu.kill()
                qemu.wait()
                shutil.copytree(share / "results", results, dirs_exist_ok=True)
            if ended or last:
                return ended or _fail(share, f"the guest did not boot within {_BOOT_SECONDS:.0f} s, {_TRIES} times")
    raise AssertionError


def _watch(qemu: "subprocess.Popen[bytes]", share: Path, seconds: float, stop: threading.Event) -> Ended | None:
    """What the command left; None where the guest did not boot."""
    begun = time.monotonic()
    while not (share / "booted").exists():
        if qemu.poll() is not None or time.monotonic() - begun > _BOOT_SECONDS:
            return None
        _pause(share, stop)
    while not (share / "code").exists():
        if qemu.poll() is not None:
            _fail(share, "the guest died")
        if time.monotonic() - begun > seconds:
            _fail(share, f"the command did not end within {seconds:.0f} s")
        _pause(share, stop)
    output, log = ((share / name).read_text(errors="replace") for name in ("output", "log"))
    return Ended(int((share / "code").read_text()), output, log)


def _pause(share: Path, stop: threading.Event) -> None:
    if stop.wait(_POLL):
        _fail(share, "the guest was not wanted any more")


def complaints(log: str) -> list[str]:
    """Lines of a kernel's log that no test may cause: a bug that it found in itself, an oops."""
    return [line for line in log.splitlines() if _CRASH.search(line)]


def _fail(share: Path, what: str) -> Ended:
    told = [
        f"{name}: {tail((share / name).read_text(errors='replace'))}"
        for name in ("output", "console", "qemu.log")
        if (share / name).exists()
    ]
    raise GuestError("\n".join([what, *told]))


def tail(text: str) -> str:
    """The end of a log, or what there is from the kernel's first cry on: what follows it is of no interest."""
    crash = _CRASH.search(text)
    if not crash:
        return text[-_TAIL:]
    begin = text.rfind("\n", 0, crash.start()) + 1
    return text[begin : begin + 2 * _TAIL]


def _argv(kernel: Kernel, initrd: Path, share: Path, guest: Guest) -> list[str]:
    # A guest must not outlive the tests.
    arguments = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
    arguments += ["-machine", f"{_MACHINE},max-ram-below-4g={guest.below_4g}", "-accel", _ACCEL, "-cpu", _CPU]
    arguments += ["-m", guest.memory, "-smp", str(guest.cpus), "-nodefaults", "-display", "none", "-no-reboot"]
    arguments += ["-serial", f"file:{share / 'console'}"]
    arguments += ["-kernel", str(kernel.image), "-initrd", str(initrd), "-append", _ARGUMENTS]
    for tag, path, more in (("root", "/", ",readonly=on,multidevs=remap"), ("share", str(share), "")):
        arguments += ["-fsdev", f"local,id={tag},path={path},security_model=none{more}"]
        arguments += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return arguments


def _initrd(kernel: Kernel) -> Path:
    """An initramfs of busybox and the modules that the root file system needs; made once for each kernel."""
    path = CACHE / f"initrd-{kernel.release}"
    if not path.exists():
        modules = _modules(kernel)
        entries = [(name, stat.S_IFDIR | 0o755, b"") for name in _DIRECTORIES]
        entries += [(f"modules/{name}", stat.S_IFREG | 0o644, data) for name, data in modules]
        entries += [("modules/order", stat.S_IFREG | 0o644, "\n".join(name for name, _ in modules).encode())]
        busybox = shutil.which("busybox")
        if not busybox:
            raise GuestError("busybox is missing: apt install busybox-static")
        entries += [("bin/busybox", stat.S_IFREG | 0o755, Path(busybox).read_bytes())]
        entries += [("init", stat.S_IFREG | 0o755, _INIT.encode()), ("TRAILER!!!", 0, b"")]
        path.write_bytes(b"".join(_cpio(at, *entry) for at, entry in enumerate(entries, 1)))
    return path


_DIRECTORIES = ("bin", "modules", "proc", "sys", "dev", "lower", "upper", "root")


def _modules(kernel: Kernel) -> list[tuple[str, bytes]]:
    """Names and contents of the modules, each after those that it needs."""
    needs = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).name.partition(".")[0].replace("-", "_")] = [path, *others.split()]
    order: dict[str, None] = {}
    for module in _MODULES:
        order.update(dict.fromkeys(reversed(needs.get(module, []))))  # one that is not listed is built in
    return [(Path(path).name.removesuffix(".xz"), _plain(kernel.modules / path)) for path in order]


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _cpio(number: int, name: str, mode: int, data: bytes) -> bytes:
    """One entry of a cpio archive in the form that the kernel reads (Documentation/driver-api/early-userspace)."""
    raw = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + raw
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
