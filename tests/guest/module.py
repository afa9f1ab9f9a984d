"""kmod/kmwatch_lab.c, built for a kernel of the matrix with this machine's compiler."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from tests.guest.kernels import CACHE, FetchError, fetch, fetch_headers

SOURCE = Path(__file__).parent / "kmod"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
# What the compiler of a newer suite can do and an older one here cannot; kbuild would pass it the options.
_TOO_NEW = re.compile(
    r"^(?:CONFIG_|#define CONFIG_)CC_HAS_(?:MIN_FUNCTION_ALIGNMENT|TYPEOF_UNQUAL|COUNTED_BY|COUNTED_BY_PTR"
    r"|MULTIDIMENSIONAL_NONSTRING)\b.*\n",
    re.MULTILINE,
)


def build(name: str) -> Path:
    """The module for a kernel, from the cache where it is of this source; FetchError where it does not build."""
    module = CACHE / f"{name}-module" / "kmwatch_lab.ko"
    stamp, source = module.with_name("source"), _fingerprint()
    if not stamp.exists() or stamp.read_text() != source:
        headers = _usable_headers(name)
        shutil.rmtree(module.parent, ignore_errors=True)
        shutil.copytree(SOURCE, module.parent)  # kbuild writes beside the source
        command = ["make", "-C", str(headers), f"M={module.parent}", "CC=gcc", "CROSS_COMPILE=", "modules"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FetchError(f"kmwatch_lab does not build for {name}: {done.stderr[-2000:]}")
        stamp.write_text(source)
    return module


def _fingerprint() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))).hexdigest()


def _usable_headers(name: str) -> Path:
    """The headers of a kernel, mended so that they work from where they were unpacked."""
    prefix, library = fetch_headers(name)
    stamp = prefix / "mended"
    if stamp.exists() and stamp.read_text() != str(prefix):  # for another place: of a copied cache
        shutil.rmtree(prefix)
        prefix.with_name(f"{prefix.name}.complete").unlink()
        prefix, library = fetch_headers(name)
    headers = prefix / "usr/src" / f"linux-headers-{fetch(name).release}"
    if not stamp.exists():
        makefile = headers / "Makefile"
        makefile.write_text(re.sub(r"(?<=[= ])/usr/src/", f"{prefix}/usr/src/", makefile.read_text()))
        for path in (headers / "include/config/auto.conf", headers / "include/generated/autoconf.h"):
            path.write_text(_TOO_NEW.sub("", path.read_text()))
        (headers / "vmlinux").unlink(missing_ok=True)  # the module's BTF would need pahole
        for program in prefix.glob("usr/lib/linux-kbuild-*/**/*"):
            if program.is_file() and program.stat().st_mode & 0o100 and _lacks_library(program):
                _wrap(program, library / _LIBRARIES)
        stamp.write_text(str(prefix))
    return headers


def _lacks_library(program: Path) -> bool:
    """Whether it was built with a newer C library than there is here."""
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    return bool(re.search(r"version .GLIBC_\S+' not found", told.stdout + told.stderr))


def _wrap(program: Path, library: Path) -> None:
    """Let a program run with its own C library; the rest is this machine's."""
    real = program.rename(program.with_name(f"{program.name}.elf"))
    loader = f"{library}/ld-linux-x86-64.so.2 --library-path {library}:/{_LIBRARIES}"
    program.write_text(f'#!/bin/sh\nexec {loader} {real} "$@"\n')
    program.chmod(0o755)
