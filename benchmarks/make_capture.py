"""Make a large capture without a kernel: events of the kinds, sizes and call sites that a busy machine has.

    python benchmarks/make_capture.py DIR EVENTS

The same seed makes the same events; segments have as many as the recorder gives at a time.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kmwatch.batch import Cache, Host, Meta, Task  # noqa: E402
from kmwatch.capture.writer import Writer  # noqa: E402
from kmwatch.events import KEY_TYPE, Segment  # noqa: E402
from kmwatch.kernel.gfp import built_in  # noqa: E402
from kmwatch.kernel.slab import limits_from  # noqa: E402
from kmwatch.kernel.symbols import Site  # noqa: E402
from kmwatch.schema import Kind  # noqa: E402

_SEGMENT = 1 << 20
_KEYS, _SITES, _CACHES, _TASKS, _OBJECTS = 3000, 1500, 200, 400, 50_000
_RATE = 3e6  # events a second


def make(directory: Path, events: int) -> None:
    """Write the capture; what is there already is replaced."""
    random = np.random.default_rng(2)
    recorder = SimpleNamespace(meta=_meta(), keys=_keys(random))
    with Writer(directory, recorder, {}, force=True) as writer:
        for segment in _segments(random, events):
            writer.write(segment)
        writer.finish("made for a benchmark", {})


def _meta() -> Meta:
    gfp = built_in()
    meta = Meta(Host("benchmark", "6.18.0", "", 2), gfp, limits_from(None, None), ("DMA", "DMA32", "Normal"), {}, "BTF")
    meta.sites += [Site(f"function_{at}+{16 * at % 4096:#x}", f"function_{at}") for at in range(1, _SITES)]
    meta.caches += [Cache(f"cache_{at}", 100 + 8 * at, 104 + 8 * at) for at in range(1, _CACHES)]
    meta.tasks.update({at: Task(f"task-{at}", f"/system.slice/unit-{at % 40}.service") for at in range(1, _TASKS)})
    return meta


def _keys(random: np.random.Generator) -> np.ndarray:
    keys = np.zeros(_KEYS, KEY_TYPE)
    kinds = (Kind.KMALLOC, Kind.KFREE, Kind.CACHE_ALLOC, Kind.CACHE_FREE, Kind.PAGE_ALLOC, Kind.PAGE_FREE)
    keys["kind"] = random.choice(kinds, _KEYS)
    keys["site"] = random.integers(1, _SITES, _KEYS)
    cached = np.isin(keys["kind"], [Kind.CACHE_ALLOC, Kind.CACHE_FREE])
    keys["cache"] = np.where(cached, random.integers(1, _CACHES, _KEYS), 0)
    keys["gfp"] = random.choice((0xCC0, 0x820, 0x400CC0, 0xC40), _KEYS)
    keys["bytes_alloc"] = np.where(keys["kind"] == Kind.KMALLOC, random.choice((32, 64, 192, 1024, 4096), _KEYS), 0)
    keys["zone"] = keys["node"] = keys["migratetype"] = 255
    return keys


def _segments(random: np.random.Generator, events: int) -> Iterator[Segment]:
    keys = _keys(np.random.default_rng(2))
    # A few sites make most of the events, as on any machine.
    weights = 1.0 / np.arange(1, _KEYS + 1)
    weights /= weights.sum()
    now = 0
    for done in range(0, events, _SEGMENT):
        count = min(_SEGMENT, events - done)
        key = random.choice(_KEYS, count, p=weights).astype(np.uint32)
        time = now + np.cumsum(random.integers(1, round(2e9 / _RATE), count))
        size = keys["bytes_alloc"][key].astype(np.int64)
        columns = {
            "time": time,
            "key": key,
            "ptr": random.integers(1, _OBJECTS, count).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15),
            "requested": size - random.integers(0, 8, count) * (size // 16),
            "pid": np.repeat(random.integers(1, 4000, count // 64 + 1), 64)[:count].astype(np.uint32),
            "task": np.repeat(random.integers(1, _TASKS, count // 64 + 1), 64)[:count].astype(np.uint32),
            "stack": np.zeros(count, np.uint32),
            "cpu": np.repeat(random.integers(0, 2, count // 4096 + 1), 4096)[:count].astype(np.uint16),
        }
        yield Segment(columns, now / 1e9, (int(time[-1]) - now) / 1e9)
        now = int(time[-1])


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
