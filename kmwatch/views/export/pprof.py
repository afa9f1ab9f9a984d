"""pprof's form: a gzip'd Profile, as github.com/google/pprof describes it in proto/profile.proto.

Field numbers below are that file's. A sample is what came from a site by a path, so that labels can tell how it asked.
"""

import gzip
from dataclasses import dataclass, field
from typing import NamedTuple

from kmwatch import __version__, contexts
from kmwatch.ledger import Ledger
from kmwatch.profile import Frame, profile
from kmwatch.schema import Kind
from kmwatch.units import number, printable
from kmwatch.views.export import protobuf
from kmwatch.views.export.ways import MEASURED

KERNEL = "[kernel]"
"""The name of the kernel itself as a mapping; pprof looks for no file of a name in brackets."""


class Sample(NamedTuple):
    """Numbers of frames, innermost first; a value for each measure; what labels say."""

    frames: tuple[int, ...]
    values: tuple[int, ...]
    labels: dict[str, str]


@dataclass(frozen=True)
class Profiled:
    """What a Profile says. start, seconds: when it began, in seconds since the epoch, and how long it was."""

    start: float
    seconds: float
    frames: list[Frame]
    samples: list[Sample]
    comments: list[str]


def build(ledger: Ledger) -> Profiled:
    """The samples. The kind, a frame elsewhere, is a label here: what is flat is then the site's own."""
    ways, meta = profile(ledger), ledger.meta
    columns = [each.at for each in MEASURED.values()]
    samples = []
    for weight, values in zip(ways.weights.tolist(), ways.split()[:, columns].tolist(), strict=True):
        site, path = ways.sites[weight[0]], ways.paths[weight[2]]
        cache = meta.caches[site["cache"]].name
        labels = {
            "kind": Kind(int(site["kind"])).name.lower(),
            "gfp": meta.gfp.decode(int(site["gfp"])),
            "context": contexts.name(int(site["context"])),
            **({"cache": cache} if cache else {}),
        }
        if any(values):
            samples.append(Sample(path[-2::-1], tuple(values), labels))
    return Profiled(ledger.start, ledger.seconds, ways.frames, samples, _comments(ledger))


def _comments(ledger: Ledger) -> list[str]:
    host, trust = ledger.meta.host, ledger.trust
    doubts = [f"{name}: {number(count)} events" for name, count in vars(trust).items() if count]
    return [
        f"kmwatch {__version__}: kernel memory of {host.hostname}, Linux {host.kernel}",
        f"{number(ledger.events())} events",
        *doubts,
        *ledger.meta.doubts,
    ]


@dataclass
class _Texts:
    """The table of texts: each once, "" first."""

    numbers: dict[str, int] = field(default_factory=lambda: {"": 0})

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(printable(text), len(self.numbers))


def render(data: Profiled) -> bytes:
    """The Profile, compressed; the same data make the same bytes."""
    texts, words = _Texts(), list(MEASURED.items())
    types = [protobuf.message(1, _value_type(texts, word, each.unit)) for word, each in words]
    samples = [protobuf.message(2, *_sample(each, texts)) for each in data.samples]
    modules = _modules(data.frames)
    mappings = [protobuf.message(3, *_mapping(texts, at, name)) for name, at in modules.items()]
    locations, functions = [], []
    for at, frame in enumerate(data.frames, 1):
        line = protobuf.message(4, protobuf.integer(1, at))
        within = protobuf.integer(2, modules[_module(frame)])
        locations.append(protobuf.message(4, protobuf.integer(1, at), within, line))
        name = texts(frame.name or "unknown")
        functions.append(
            protobuf.message(5, protobuf.integer(1, at), protobuf.integer(2, name), protobuf.integer(3, name))
        )
    comments = protobuf.packed(13, [texts(comment) for comment in data.comments])
    first = protobuf.integer(14, texts(words[0][0]))
    strings = [protobuf.text(6, text) for text in texts.numbers]
    times = protobuf.integer(9, round(data.start * 1e9)), protobuf.integer(10, round(data.seconds * 1e9))
    parts = [*types, *samples, *mappings, *locations, *functions, *strings, *times, comments, first]
    return gzip.compress(b"".join(parts), mtime=0)


def _value_type(texts: _Texts, word: str, unit: str) -> bytes:
    return protobuf.integer(1, texts(word)) + protobuf.integer(2, texts(unit))


def _sample(sample: Sample, texts: _Texts) -> list[bytes]:
    labels = [
        protobuf.message(3, protobuf.integer(1, texts(key)), protobuf.integer(2, texts(value)))
        for key, value in sample.labels.items()
    ]
    return [protobuf.packed(1, [at + 1 for at in sample.frames]), protobuf.packed(2, sample.values), *labels]


def _module(frame: Frame) -> str:
    return f"[{frame.module}]" if frame.module else KERNEL


def _modules(frames: list[Frame]) -> dict[str, int]:
    """Numbers of the mappings; the first is what pprof calls the program."""
    names = dict.fromkeys([KERNEL, *map(_module, frames)])
    return {name: at for at, name in enumerate(names, 1)}


def _mapping(texts: _Texts, at: int, name: str) -> list[bytes]:
    """Functions are known, so that pprof does not look for them."""
    return [protobuf.integer(1, at), protobuf.integer(5, texts(name)), protobuf.integer(7, 1)]
