"""Growth: what each site held at each look, and slopes that outliers do not bend."""

import itertools
import random
import statistics

import numpy as np
import pytest

from kmwatch.batch import Cache, Meta
from kmwatch.growth import GROWN, Growth
from kmwatch.schema import Kind
from tests.unit import rows
from tests.unit.holding import held, of

LEAK = rows.kmalloc("leak+0x1", 60)
EACH = 64  # bytes
DENTRY = rows.object_of(Cache("dentry", 192, 192), "d_alloc+0x1")
MOST = 64  # looks


def grown(known: Meta, *looks: tuple[float, int]) -> Growth:
    """What grew, of looks: a time in seconds, and how many objects the leak held then."""
    made = Growth()
    for at, objects in looks:
        made.add(at, held(known, of(LEAK, held=objects)))
    return made


def site(known: Meta, name: str) -> int:
    return [each.text for each in known.sites].index(name)


def bytes_of(known: Meta, growth: Growth) -> list[int]:
    found: list[int] = growth.series(Kind.KMALLOC, site(known, "leak+0x1"), 0).tolist()
    return found


def plain_slope(looks: list[tuple[float, int]]) -> float:
    """The definition of Theil and Sen, in objects per second."""
    pairs = itertools.combinations(looks, 2)
    return statistics.median((later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in pairs)


@pytest.mark.parametrize("seed", range(10))
def test_the_slope_is_that_of_theil_and_sen(seed: int) -> None:
    numbers = random.Random(seed)  # noqa: S311 - repeatable, not secret
    times = sorted(numbers.sample(range(1000), numbers.randint(2, 40)))
    looks = [(at / 7, round(at * 2.5) + numbers.randint(0, 900)) for at in times]
    looks[-1] = (looks[-1][0], looks[0][1] + numbers.randint(1, 3000))
    (row,) = grown(rows.meta(), *looks).rows()

    pairs = list(itertools.combinations([objects for _, objects in looks], 2))
    assert row["objects_per_second"] == pytest.approx(plain_slope(looks))
    assert row["bytes_per_second"] == pytest.approx(plain_slope(looks) * EACH)
    assert row["rising"] == pytest.approx(sum(later > earlier for earlier, later in pairs) / len(pairs))
    assert (row["objects"], row["bytes"]) == (looks[-1][1], looks[-1][1] * EACH)


def test_outliers_do_not_bend_it() -> None:
    """Three bursts among twenty looks: a line through all of them by least squares would be far off."""
    looks = [(float(at), 10 * at + 1) for at in range(20)]
    for at in (4, 11, 17):
        looks[at] = (float(at), 100_000)
    (row,) = grown(rows.meta(), *looks).rows()

    assert row["objects_per_second"] == pytest.approx(10, rel=0.1)
    fitted = np.polyfit([at for at, _ in looks], [objects for _, objects in looks], 1)[0]
    assert fitted > 100


@pytest.mark.parametrize(
    ("numbers", "slope", "rising"), [((5, 5, 5), 0, 0), ((9, 5, 1), 0, 0), ((1, 2, 2), 0.5, 2 / 3), ((3,), 0, 0)]
)
def test_what_does_not_hold_more_than_at_first_has_no_slope(
    numbers: tuple[int, ...], slope: float, rising: float
) -> None:
    (row,) = grown(rows.meta(), *enumerate(numbers)).rows()

    assert (row["objects_per_second"], row["bytes_per_second"]) == (slope, slope * EACH)
    assert row["rising"] == pytest.approx(rising)


def test_a_site_held_nothing_before_it_was_seen_and_nothing_after_it_was_gone() -> None:
    known, growth = rows.meta(), Growth()
    growth.add(0, held(known, of(LEAK, held=3)))
    growth.add(1, held(known, of(LEAK, held=3), of(DENTRY, held=2)))
    growth.add(2, held(known, of(DENTRY, held=7)))
    by_site = {known.sites[row["site"]].text: row for row in growth.rows()}
    cache = known.caches.index(DENTRY["cache"])

    assert bytes_of(known, growth) == [3 * EACH, 3 * EACH, 0]
    assert growth.series(Kind.CACHE_ALLOC, site(known, "d_alloc+0x1"), cache).tolist() == [0, 2 * 192, 7 * 192]
    assert by_site["leak+0x1"]["bytes"] == 0
    assert by_site["d_alloc+0x1"]["objects_per_second"] == pytest.approx(3.5)


def test_sizes_and_flags_of_one_site_are_one_series() -> None:
    known, growth = rows.meta(), Growth()
    growth.add(0, held(known, of(LEAK, held=3), of(rows.kmalloc("leak+0x1", 100, gfp="GFP_ATOMIC"), held=2), bits=4))

    assert bytes_of(known, growth) == [16 * (3 * 64 + 2 * 128)]
    assert len(growth.rows()) == 1


def test_where_nobody_looked_there_is_nothing() -> None:
    growth = Growth()

    assert len(growth) == 0
    assert growth.rows().dtype == GROWN
    assert len(growth.rows()) == len(growth.series(Kind.KMALLOC, 1, 0)) == 0
    assert growth.late(Kind.KMALLOC, 1, 0) == 0


def test_many_looks_are_thinned_to_every_other_one() -> None:
    known = rows.meta()
    full = [(float(at), at + 1) for at in range(MOST)]
    over = grown(known, *full, (float(MOST), MOST + 1))

    assert bytes_of(known, grown(known, *full)) == [EACH * (at + 1) for at in range(MOST)]
    assert bytes_of(known, over) == [EACH * (at + 1) for at in range(0, MOST + 1, 2)]


@pytest.mark.parametrize("number", range(60, 1000, 47))
def test_the_first_and_the_last_look_are_kept_and_the_others_are_even(number: int) -> None:
    known = rows.meta()
    growth = grown(known, *((float(at), at) for at in range(1, number + 1)))
    kept = [size // EACH for size in bytes_of(known, growth)]
    (row,) = growth.rows()

    assert (kept[0], kept[-1], row["objects"]) == (1, number, number)
    assert MOST / 2 <= len(kept) <= MOST + 1
    assert len(growth) == len(kept)
    between = {later - earlier for earlier, later in itertools.pairwise(kept[:-1])}
    assert len(between) == 1
    assert 0 < kept[-1] - kept[-2] <= between.pop()
    assert row["objects_per_second"] == pytest.approx(1)


def test_the_later_half_has_its_own_slope() -> None:
    known = rows.meta()
    growth = grown(known, *enumerate((0, 100, 200, 300, 400, 401, 402, 403, 404, 405)))
    leak = Kind.KMALLOC, site(known, "leak+0x1"), 0

    assert growth.late(*leak) == EACH
    assert growth.late(Kind.KMALLOC, 99, 0) == 0
    assert [grown(known, *enumerate(range(looks))).late(*leak) for looks in (1, 3, 4)] == [0, 0, EACH]


def test_a_copy_does_not_grow_with_the_original() -> None:
    known = rows.meta()
    growth = grown(known, (0, 1), (1, 2))
    copy = growth.copy()
    growth.add(2, held(known, of(LEAK, held=3), of(DENTRY, held=1)))

    assert (len(copy), len(growth), len(copy.rows()), len(growth.rows())) == (2, 3, 1, 2)
    assert bytes_of(known, copy) == [EACH, 2 * EACH]


@pytest.mark.parametrize("number", [2 * MOST, 2 * MOST + 1])
def test_a_copy_of_thinned_looks_goes_on_like_the_original(number: int) -> None:
    """Whether its last look stays or is the next one's to replace."""
    known = rows.meta()
    growth = grown(known, *((float(at), at) for at in range(1, number)))
    copy = growth.copy()
    for each in (growth, copy):
        for at in range(number, 3 * MOST):
            each.add(float(at), held(known, of(LEAK, held=at)))

    assert bytes_of(known, copy) == bytes_of(known, growth)
