"""Captures of different kernels in one Meta: flags, sites, caches, zones and tasks by name, whatever their numbers."""

import numpy as np

from kmwatch.batch import Cache, Host, Meta, Task
from kmwatch.fleet.flags import FleetFlags
from kmwatch.fleet.merging import Merging, sum_of
from kmwatch.held import HELD, Held
from kmwatch.kernel.gfp import GfpTable, built_in
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.kernel.symbols import Site
from kmwatch.schema import NO_ZONE, Kind
from kmwatch.sources.fleet import TOLD_APART
from tests.unit import rows

# As Linux 5.10 prints it: GFP_ATOMIC has a bit of its own, and those of ACCOUNT and ZEROTAGS are others.
OLD = GfpTable(
    (
        ("GFP_KERNEL", 0xCC0),
        ("GFP_ATOMIC", 0xA20),
        ("__GFP_HIGH", 0x20),
        ("__GFP_IO", 0x40),
        ("__GFP_FS", 0x80),
        ("__GFP_ZERO", 0x100),
        ("__GFP_ATOMIC", 0x200),
        ("__GFP_DIRECT_RECLAIM", 0x400),
        ("__GFP_KSWAPD_RECLAIM", 0x800),
        ("__GFP_ACCOUNT", 0x100000),
        ("GFP_OWN", 0x3000000),
        ("__GFP_ONE", 0x1000000),
        ("__GFP_TWO", 0x2000000),
    ),
    "old",
)


def meta(*sites: Site, kernel: str = "6.18.0", hostname: str = "box", gfp: GfpTable | None = None) -> Meta:
    made = Meta(
        Host(hostname, kernel, "", 2), gfp or built_in(), AllocatorLimits(), ("DMA", "Normal"), {"kmem:a": "raw"}, "BTF"
    )
    made.sites += sites
    return made


def test_flags_are_the_same_where_their_names_are() -> None:
    flags, new = FleetFlags(), built_in()

    assert flags.mask(OLD, 0xA20) == flags.mask(new, new.bit("GFP_ATOMIC"))
    for table, mask in ((OLD, 0xCC0 | 0x100), (OLD, 0x100000), (new, new.encode("GFP_NOWAIT|__GFP_COMP"))):
        assert flags.table.decode(flags.mask(table, mask)) == table.decode(mask)


def test_flags_that_are_new_get_a_bit_and_keep_it() -> None:
    flags = FleetFlags()
    one = flags.mask(OLD, 0x1000000)
    both = flags.mask(OLD, 0x3000000)

    assert flags.table.decode(one) == "__GFP_ONE"
    assert flags.table.decode(both) == "__GFP_ONE|__GFP_TWO"
    assert one.bit_count() == 1
    assert both & one == one
    assert both < 1 << 32


def test_bits_without_a_name_keep_their_number_as_one() -> None:
    flags = FleetFlags()

    mask = flags.mask(OLD, 0x100 | 0x80000000)

    assert flags.table.decode(mask) == "__GFP_ZERO|0x80000000"


def test_a_flag_too_many_is_left_out_and_told() -> None:
    flags = FleetFlags()
    many = GfpTable(tuple((f"__GFP_NEW{bit}", 1 << bit) for bit in range(32)), "another")

    mask = flags.mask(many, (1 << 32) - 1)

    assert mask == 0xFF000000
    assert len(flags.full) == 24


def test_sites_are_told_apart_by_function_and_module_not_by_offset() -> None:
    merging = Merging()
    first = meta(Site("f+0x10", "f"), Site("f+0x9", "f", "wifi"))
    other = meta(Site("f+0x33", "f", "wifi"), Site("f+0x44", "f"), Site("g+0x1", "g"))

    ours = [merging.translation(name, each).sites.tolist() for name, each in (("a", first), ("b", other))]

    assert ours == [[0, 1, 2], [0, 2, 1, 3]]
    assert [site.label for site in merging.meta.sites] == ["unknown", "f", "f [wifi]", "g"]


def test_rows_keep_their_sums_and_get_the_fleets_numbers() -> None:
    known = rows.meta()
    given = rows.rows_of(known, rows.kmalloc("f+0x1", 60, count=7), rows.pages("g+0x1", 2, zone=0, count=3))
    merging = Merging()
    merging.translation("other", meta(Site("z+0x1", "z")))

    found = merging.translation("a", known).rows(given)

    assert [merging.meta.sites[at].symbol for at in found["site"]] == ["f", "g"]
    assert found["count"].tolist() == [7, 3]
    assert [merging.meta.gfp.decode(mask) for mask in found["gfp"].tolist()] == [
        known.gfp.decode(mask) for mask in given["gfp"].tolist()
    ]
    assert found["zone"].tolist() == [NO_ZONE, merging.meta.zones.index(known.zones[0])]
    assert given["site"].tolist() != found["site"].tolist()


def test_tasks_are_what_rows_are_told_apart_by() -> None:
    by = {name: Merging(tell) for name, tell in TOLD_APART.items()}
    found = {}
    for name, merging in by.items():
        for host in ("one", "two"):
            each = meta(hostname=host, kernel=f"6.{len(host)}.{host}")
            each.tasks[7] = Task("cat", "/user.slice")
            number = merging.translation(host, each).tasks[7]
            found.setdefault(name, []).append(merging.meta.tasks[number])

    assert len(set(found["comm"])) == len(set(found["cgroup"])) == 1
    assert [task.host for task in found["host"]] == ["one", "two"]
    assert [task.kernel for task in found["kernel"]] == ["6.3.one", "6.3.two"]
    nobody = Merging()
    assert set(nobody.translation("a", meta()).tasks.values()) == {0}


def test_what_differs_is_told_so() -> None:
    merging = Merging()
    first, other = meta(hostname="one"), meta(hostname="two", kernel="6.12.1")
    first.start, other.start, other.context = 20.0, 10.0, ""
    other.probes["kmem:a"], other.doubts = "missing", ["it was cut"]
    for name, each in (("a", first), ("b", other)):
        merging.translation(name, each)

    host = merging.meta.host
    assert (host.hostname, host.kernel) == ("2 hosts", "2 kernels")
    assert merging.meta.start == 10.0
    assert merging.meta.probes == {"kmem:a": "differs from capture to capture"}
    assert merging.meta.context == "differs from capture to capture"
    assert merging.meta.doubts == ["b: it was cut"]


def test_caches_of_one_name_and_another_size_are_two() -> None:
    merging = Merging()
    first, other = meta(), meta()
    first.caches.append(Cache("dentry", 190, 192))
    other.caches += [Cache("inode", 600, 640), Cache("dentry", 200, 208), Cache("dentry", 190, 192)]

    assert merging.translation("a", first).caches.tolist() == [0, 1]
    assert merging.translation("b", other).caches.tolist() == [0, 2, 3, 1]


def test_stacks_are_those_of_the_fleets_sites() -> None:
    merging = Merging()
    merging.translation("z", meta(Site("z+0x1", "z")))
    known = meta(Site("f+0x1", "f"), Site("g+0x1", "g"))
    known.stacks[900] = (2, 1)
    stacked = np.zeros(2, [("stack", "<u4"), ("site", "<u4")])
    stacked["stack"], stacked["site"] = (900, 0), 1

    found = merging.translation("a", known).rows(stacked)

    frames = merging.meta.stacks[int(found["stack"][0])]
    assert [merging.meta.sites[at].symbol for at in frames] == ["g", "f"]
    assert found["stack"][1] == 0


def test_what_is_held_is_added_up() -> None:
    held = np.zeros(1, HELD)
    held["kind"], held["site"], held["objects"], held["bytes_requested"] = Kind.KMALLOC, 1, 5, 320
    merging = Merging()
    parts = [
        merging.translation(name, meta(Site(text, "f"))).held(Held(held)) for name, text in (("a", "f+1"), ("b", "f+2"))
    ]

    whole = sum_of(parts)

    assert whole is not None
    assert whole.rows["objects"].tolist() == [10]
    assert whole.rows["bytes_requested"].tolist() == [640]
    assert sum_of([]) is None
