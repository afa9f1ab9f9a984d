"""Debian's kernels for the guest: fetched as packages by apt, which verifies them, and unpacked under .cache/.

Nothing is installed: apt works in directories of its own, with the mirror and the keys of this machine.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "kernels"
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What an image or headers package is made of; compilers and initramfs tools are not wanted.
_PARTS = re.compile(r"linux-(?:image|binary|modules|headers|kbuild)-[\w.+-]+")


@dataclass(frozen=True)
class Wanted:
    """A kernel of the matrix: a suite of Debian and the package that depends on its newest image."""

    suite: str
    image: str = "linux-image-amd64"


MATRIX = {
    "5.10": Wanted("bullseye"),
    "6.1": Wanted("bookworm"),
    "6.12": Wanted("trixie"),
    "6.12-rt": Wanted("trixie", "linux-image-rt-amd64"),
    "newest": Wanted("sid"),
}
"""The kernels that kmwatch is tested on."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: its release, and the directory that has its boot/ and lib/modules/."""

    release: str
    prefix: Path

    @property
    def image(self) -> Path:
        """The bootable image: in boot/, from 7.x on beside the modules."""
        places = (self.prefix / "boot" / f"vmlinuz-{self.release}", self.modules / "vmlinuz")
        return next(place for place in places if place.exists())

    @property
    def modules(self) -> Path:
        """lib/modules/RELEASE, wherever the package put it."""
        places = (self.prefix / "lib/modules" / self.release, self.prefix / "usr/lib/modules" / self.release)
        return next(place for place in places if place.exists())


class FetchError(Exception):
    """A kernel cannot be had; the message says why."""


def fetch(name: str) -> Kernel:
    """A kernel of MATRIX, from the cache or from the archive; FetchError where that is not possible."""
    prefix, stamp = CACHE / name, CACHE / f"{name}.release"
    if not stamp.exists():
        shutil.rmtree(prefix, ignore_errors=True)
        prefix.mkdir(parents=True)
        release = _unpack(MATRIX[name], prefix)
        _run("depmod", "-b", str(Kernel(release, prefix).modules.parents[2]), release)
        stamp.write_text(release)
    return Kernel(stamp.read_text(), prefix)


def fetch_headers(name: str) -> tuple[Path, Path]:
    """Where the headers of a kernel are unpacked, and the C library that the programs among them were built with."""
    prefix, stamp = CACHE / f"{name}-headers", CACHE / f"{name}-headers.complete"
    if not stamp.exists():
        kernel, options = fetch(name), _private_apt(MATRIX[name].suite)
        shutil.rmtree(prefix, ignore_errors=True)
        headers = f"linux-headers-{kernel.release}"
        _unpack_packages(options, {headers, *_depends(options, headers)}, prefix)
        _unpack_packages(options, {"libc6"}, prefix / "libc6")
        stamp.touch()
    return prefix, prefix / "libc6"


def _unpack(wanted: Wanted, prefix: Path) -> str:
    """Download a kernel's packages and unpack them; its release."""
    options = _private_apt(wanted.suite)
    images = _depends(options, wanted.image)
    if not images:
        raise FetchError(f"{wanted.suite} has no {wanted.image}")
    _unpack_packages(options, {images[0], *_depends(options, images[0])}, prefix)
    return images[0].removeprefix("linux-image-").removesuffix("-unsigned")


def _unpack_packages(options: tuple[str, ...], packages: set[str], prefix: Path) -> None:
    prefix.mkdir(parents=True, exist_ok=True)
    downloads = CACHE / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    for name in sorted(packages):
        _run("apt-get", *options, "-q", "download", name, cwd=downloads)
        for package in downloads.glob(f"{name}_*.deb"):
            _run("dpkg-deb", "-x", str(package), str(prefix))
            package.unlink()


def _private_apt(suite: str) -> tuple[str, ...]:
    """Options that make apt see one suite only, in directories under the cache."""
    mirror = _run("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages")
    found = re.search(r"^Debian (\S+?)/?$", mirror, re.MULTILINE)
    if not found or not _KEYS.exists():
        raise FetchError("this is not a Debian with its archive keys: its kernels cannot be fetched and verified")
    root = CACHE / "apt" / suite
    for directory in ("lists/partial", "cache/archives/partial"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "sources.list").write_text(f"deb [signed-by={_KEYS}] {found[1]} {suite} main\n")
    (root / "status").touch()
    settings = {
        "Dir::Etc::SourceList": root / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": root / "lists",
        "Dir::State::Status": root / "status",
        "Dir::Cache": root / "cache",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
    }
    options = tuple(f"-o{name}={value}" for name, value in settings.items())
    _run("apt-get", *options, "-q", "update")
    return options


def _depends(options: tuple[str, ...], package: str) -> list[str]:
    """The packages of a kernel that another one depends on."""
    text = _run("apt-cache", *options, "depends", "--no-recommends", "--no-suggests", package)
    names = re.findall(r"^ *\|?Depends: (\S+)$", text, re.MULTILINE)
    return [name for name in names if _PARTS.fullmatch(name)]


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FetchError(f"{' '.join(command[:1])} failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout
