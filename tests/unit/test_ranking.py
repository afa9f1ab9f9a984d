"""Who enters the top, who stays, who is forgotten."""

import numpy as np

from kmwatch.serve.ranking import ROOM, Ranking


def gain(ranking: Ranking, seconds: float = 10.0, **gains: int | tuple[int, ...]) -> tuple[list[int], list[int]]:
    """A span in which `k1` and so on gained: keys are numbers."""
    keys = np.array([int(name[1:]) for name in gains], np.int64)
    values = np.array([np.atleast_1d(value) for value in gains.values()], np.int64).reshape(len(keys), -1)
    if not len(keys):
        values = np.zeros((0, ranking._scores.shape[1]), np.int64)
    left, entered = ranking.update(keys, values, seconds)
    return left.tolist(), entered.tolist()


def test_each_measure_has_its_own_top() -> None:
    ranking = Ranking(2, top=1, idle=100.0)
    assert gain(ranking, k1=(5, 0), k2=(0, 3), k3=(4, 2)) == ([], [1, 2])


def test_what_was_gained_long_ago_counts_less() -> None:
    ranking = Ranking(1, top=1, idle=60.0)  # half of it is gone after 10 seconds
    assert gain(ranking, k1=100) == ([], [1])
    assert gain(ranking, k1=1, k2=51) == ([], [])  # 51 against 51, and the first keeps its place
    assert gain(ranking, k1=1, k2=40) == ([], [2])  # 26.5 against 65.5


def test_gains_below_the_top_do_not_keep_a_place() -> None:
    """Else whoever once had a hot minute, and allocates now and then, would keep others out for good."""
    ranking = Ranking(1, top=1, idle=30.0)
    gain(ranking, k1=10)
    assert [gain(ranking, k1=1, k2=1000)[0] for _ in range(4)] == [[], [], [1], []]
    assert ranking.living.tolist() == [2]


def test_gains_at_the_top_keep_it() -> None:
    ranking = Ranking(1, top=1, idle=30.0)
    gain(ranking, k1=10)
    assert [gain(ranking, k1=10)[0] for _ in range(9)] == [[]] * 9


def test_the_best_come_in_where_there_is_room_for_some() -> None:
    ranking = Ranking(2, top=5, idle=100.0)
    gain(ranking, **{f"k{at}": (1, 1) for at in range(5)})
    ranking.limit = 7
    assert gain(ranking, k11=(90, 0), k12=(10, 0), k13=(0, 500)) == ([], [11, 13])


def test_only_who_is_at_the_top_or_gained_lately_is_remembered() -> None:
    ranking = Ranking(1, top=1, idle=30.0)
    for at in range(200):
        gain(ranking, **{f"k{at + 10}": 1, "k1": 1000})
        assert len(ranking._keys) <= 1 + 30 // 10
    assert ranking.living.tolist() == [1]


def test_no_top_is_no_series() -> None:
    ranking = Ranking(1, top=0, idle=30.0)
    assert gain(ranking, k1=5) == ([], [])
    assert ranking.limit == ROOM * 0
