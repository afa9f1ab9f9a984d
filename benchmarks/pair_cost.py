"""What watching costs a program that does nothing but allocate and free, as a ratio to the least that it can cost.

In one run, in turn, again and again: nothing attached; empty programs on the events of kmwatch's default set; kmwatch's
default set; the same with stacks counted of a sample of events; and with the table of what is held, where an object is
in its sample, and where it is not. As the pair is always at one address, it is one or the other: of one object of 16 it
costs 15 times the one and once the other.
Each time messages go in and out of a queue (benchmarks/pair_cost.c): one kmalloc and one kfree a pair. A
round keeps the best of many short stretches, and the best quarter of the rounds is compared: neighbours on the machine
only ever add.
It is no test: it ends with 0 whatever comes out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # also where kmwatch is not installed

import numpy as np  # noqa: E402

from kmwatch.errors import KmwatchError  # noqa: E402
from kmwatch.schema import Kind, Stacks, Way  # noqa: E402
from kmwatch.sources.bpf import Programs  # noqa: E402
from kmwatch.sources.held import Hold  # noqa: E402
from kmwatch.sources.maps import LiveSource  # noqa: E402

SIZES = (64, 2000)
TARGETS = {"ratio": 2.5, "stacks": 1.3, "held": 1.3}
NAMES = ("nothing", "empty", "kmwatch", "stacks", "out", "in")  # of the sample, the last two
NOBODY = 62  # bits of a sample that nothing is in


@contextmanager
def attached(programs: Programs | None) -> Iterator[None]:
    """Programs attached for a while; they stay loaded."""
    if programs:
        programs.attach()
    try:
        yield
    finally:
        if programs:
            programs.detach()


def detached(source: LiveSource) -> Programs:
    """The programs of a source, to be attached and detached in turn without compiling each time."""
    kernel = source._kernel  # noqa: SLF001
    # The first reading after an event ends the source's own measurement, which makes every program slower.
    while kernel.meter.is_measuring:
        Path("/proc/self/stat").read_text()
        source.read()
    kernel.programs.detach()
    return kernel.programs


@contextmanager
def loaded() -> Iterator[dict[str, Programs | None]]:
    """Those to compare, loaded and not attached."""
    with (
        LiveSource(frozenset(Kind)) as source,
        LiveSource(frozenset(Kind), stacks=Stacks.SAMPLED) as stacked,
        LiveSource(frozenset(Kind), hold=Hold(NOBODY)) as outside,
        LiveSource(frozenset(Kind), hold=Hold(0)) as inside,
    ):
        watching, sampling, without, within = map(detached, (source, stacked, outside, inside))
        raw = tuple(replace(each, way=Way.RAW) for each in watching.attachments if not each.again)
        empty = Programs(str(HERE / "empty.c"), raw, {})
        try:
            compared = (None, empty, watching, sampling, without, within)
            yield dict(zip(NAMES, compared, strict=True))
            if not np.count_nonzero(source.read().rows["kind"] == Kind.KFREE):
                raise RuntimeError("kmwatch counted nothing while it was measured: the numbers mean nothing")
        finally:
            empty.close()


def measure(rounds: int, stretches: int, progress: Callable[[str], None]) -> dict[int, dict[str, list[float]]]:
    """Nanoseconds a pair, by size and by what was attached: one number for each round."""
    found: dict[int, dict[str, list[float]]] = {size: {name: [] for name in NAMES} for size in SIZES}
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        program = Path(directory) / "pair_cost"
        subprocess.run(["cc", "-O2", "-o", program, HERE / "pair_cost.c"], check=True)
        ways = stack.enter_context(loaded())
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for name, programs in ways.items():
                with attached(programs):
                    for size in SIZES:
                        command = [program, str(size), str(stretches)]
                        ended = subprocess.run(command, check=True, capture_output=True, text=True)
                        found[size][name].append(float(ended.stdout))
    return found


def summary(found: dict[int, dict[str, list[float]]]) -> dict[str, Any]:
    """What the quietest rounds cost, what each adds to `nothing`, and the ratio of the two additions."""
    sizes = []
    for size, by_name in found.items():
        quiet = {name: quietest(values) for name, values in by_name.items()}
        added = {name: quiet[name] - quiet["nothing"] for name in NAMES[1:]}
        held = (15 * added["out"] + added["in"]) / 16
        ratio = round(added["kmwatch"] / added["empty"], 2) if added["empty"] > 0 else None
        rounded = {name: round(cost, 1) for name, cost in added.items()}
        more = {
            name: round(cost / added["kmwatch"], 2) if added["kmwatch"] > 0 else None
            for name, cost in (("stacks", added["stacks"]), ("held", held))
        }
        sizes.append({"size": size, "quiet": quiet, "added": rounded, "ratio": ratio, **more})
    met = {
        name: all(each[name] is not None and each[name] <= target for each in sizes) for name, target in TARGETS.items()
    }
    return {"unit": "nanoseconds a pair", "targets": TARGETS, "met": met, "sizes": sizes}


def quietest(values: list[float]) -> float:
    """The median of the best quarter: neighbours only ever add, and one lucky round shall not decide."""
    return statistics.median(sorted(values)[: max(1, len(values) // 4)])


def show(result: dict[str, Any]) -> None:
    """The result as text."""
    headings = (*NAMES, *(f"+{name}" for name in NAMES[1:]), *TARGETS)
    print(f"{'nanoseconds a pair':20}{''.join(f'{heading:>10}' for heading in headings)}")
    for each in result["sizes"]:
        costs = [each["quiet"][name] for name in NAMES] + [each["added"][name] for name in NAMES[1:]]
        ratios = ("n/a" if each[name] is None else f"{each[name]:.2f}" for name in TARGETS)
        shown = "".join(f"{cost:10.1f}" for cost in costs) + "".join(f"{ratio:>10}" for ratio in ratios)
        print(f"{each['size']:5} bytes         {shown}")
    verdicts = {name: "PASS" if met else "over" for name, met in result["met"].items()}
    words = {
        "ratio": "kmwatch adds so many times what empty programs add",
        "stacks": "with stacks of a sample, so many times what kmwatch adds",
        "held": "with what is held, one object of 16, so many times what kmwatch adds",
    }
    for name, target in TARGETS.items():
        print(f"{verdicts[name]}: {name}: {words[name]}; the target is at most {target}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41, help="turns of all of them (default: %(default)s)")
    parser.add_argument("--stretches", type=int, default=30, help="short stretches in each (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, with every round")
    arguments = parser.parse_args()

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text} ", end="", file=sys.stderr, flush=True)

    try:
        found = measure(arguments.rounds, arguments.stretches, progress)
    except KmwatchError as error:
        print(f"pair_cost: {error}", file=sys.stderr)
        return 0
    progress("\r\033[K")
    result = summary(found)
    if arguments.json:
        print(json.dumps(result | {"rounds": {str(size): by_name for size, by_name in found.items()}}, indent=2))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
