"""Addresses to names, from the text of /proc/kallsyms and from texts that nobody should trust."""

from pathlib import Path

import pytest

from kmwatch.errors import NotPossibleError
from kmwatch.kernel.symbols import UNKNOWN, Site, Symbols

# Not sorted, as in a real kernel: modules and BPF programs come after the kernel itself, in order of loading.
KALLSYMS = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000100 t do_one
ffffffff81000200 T load_msg
ffffffff81000200 T load_msg_alias
ffffffff81000300 W weak_one
ffffffff82000000 D jiffies_64
ffffffff82000040 d __per_cpu_offset
ffffffff82000080 r __per_cpu_offset_not
ffffffffc0402000 t e1000_clean\t[e1000]
ffffffffc0401000 t nf_hook\t[nf_tables]
ffffffffc0001000 t bpf_prog_6deef7357e7b4530_count\t[bpf]
"""


@pytest.fixture
def symbols() -> Symbols:
    return Symbols(KALLSYMS)


@pytest.mark.parametrize(
    ("address", "site"),
    [
        (0xFFFFFFFF81000000, Site("_stext+0x0", "_stext")),
        (0xFFFFFFFF810000FF, Site("_stext+0xff", "_stext")),
        (0xFFFFFFFF81000141, Site("do_one+0x41", "do_one")),
        (0xFFFFFFFF81000310, Site("weak_one+0x10", "weak_one")),
        (0xFFFFFFFFC0401004, Site("nf_hook+0x4", "nf_hook", "nf_tables")),
        (0xFFFFFFFFC0402004, Site("e1000_clean+0x4", "e1000_clean", "e1000")),
        (0xFFFFFFFFC0001001, Site("bpf_prog_6deef7357e7b4530_count+0x1", "bpf_prog_6deef7357e7b4530_count", "bpf")),
        (0xFFFFFFFF81000300 + (1 << 20), Site("weak_one+0x100000", "weak_one")),
    ],
)
def test_an_address_becomes_function_offset_and_module(symbols: Symbols, address: int, site: Site) -> None:
    assert symbols.resolve(address) == site


@pytest.mark.parametrize("address", [0, 1, 0xFFFFFFFF80FFFFFF, 0xFFFFFFFF81000301 + (1 << 20), (1 << 64) - 1])
def test_what_no_function_is_near_to_is_unknown(symbols: Symbols, address: int) -> None:
    """The very object: the live source takes it as the sign to read the symbols again."""
    assert symbols.resolve(address) is UNKNOWN


def test_only_code_is_counted_and_data_is_found_by_its_whole_name(symbols: Symbols) -> None:
    assert len(symbols) == 8
    assert symbols.data("__per_cpu_offset") == 0xFFFFFFFF82000040
    assert symbols.data("jiffies_64") == 0xFFFFFFFF82000000
    assert symbols.data("per_cpu_offset") is None
    assert symbols.data("no_such") is None
    assert symbols.resolve(0xFFFFFFFF82000044) is UNKNOWN


def test_a_length_is_that_of_the_function_of_this_whole_name(symbols: Symbols) -> None:
    assert symbols.length("_stext") == 0x100
    assert symbols.length("do_one") == 0x100
    assert symbols.length("one") == 0
    assert symbols.length("e1000_clean") == 0  # a module's own is another function
    assert symbols.length("jiffies_64") == 0


def test_a_name_with_another_behind_a_blank_is_none_of_the_kernels() -> None:
    symbols = Symbols(KALLSYMS + b"ffffffffc0500000 t a __preempt_count\nffffffff82000100 d __preempt_count\n")

    assert symbols.data("__preempt_count") == 0xFFFFFFFF82000100


def test_one_of_two_names_of_an_address_is_taken_always_the_same(symbols: Symbols) -> None:
    assert {symbols.resolve(0xFFFFFFFF81000200 + offset).symbol for offset in range(16)} == {"load_msg_alias"}


def test_the_last_line_may_lack_its_end() -> None:
    assert len(Symbols(KALLSYMS.rstrip(b"\n"))) == 8


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"0000000000000000 T _stext\n0000000000000000 T load_msg\n",
        b"not kallsyms at all, by any means\n",
        b"ffffffff81000000 T _stext\nffffffff8",
    ],
)
def test_hidden_or_strange_symbols_are_not_possible_and_say_what_would_be(raw: bytes) -> None:
    with pytest.raises(NotPossibleError, match="run as root") as raised:
        Symbols(raw)
    assert raised.value.exit_code == 3
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotPossibleError, match=r"cannot read .*kallsyms \(No such file or directory\): run as root"):
        Symbols.running(tmp_path / "kallsyms")


def test_the_running_kernels_file_is_read_by_path(tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_bytes(KALLSYMS)

    assert Symbols.running(tmp_path / "kallsyms").resolve(0xFFFFFFFF81000141).text == "do_one+0x41"


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        (b"\xff\xfe\x80", "\ufffd\ufffd\ufffd"),
        (b"a b c", "a b c"),
        (b"x" * 511, "x" * 511),
        (b"[red]boom[/red]", "[red]boom[/red]"),
        (b"$x.7", "$x.7"),
    ],
)
def test_a_hostile_name_is_only_a_name(name: bytes, symbol: str) -> None:
    """A module's author chooses its names; the neighbours must keep theirs."""
    symbols = Symbols(KALLSYMS + b"ffffffffc0500000 t %s\t[evil]\nffffffffc0500100 t after\t[evil]\n" % name)

    assert symbols.resolve(0xFFFFFFFFC0500001) == Site(f"{symbol}+0x1", symbol, "evil")
    assert symbols.resolve(0xFFFFFFFFC0500101) == Site("after+0x1", "after", "evil")
    assert symbols.resolve(0xFFFFFFFF81000141).symbol == "do_one"


def test_a_carriage_return_in_a_name_is_no_end_of_a_line() -> None:
    symbols = Symbols(KALLSYMS + b"ffffffffc0500000 t two\rlines\t[evil]\nffffffffc0500100 t after\t[evil]\n")

    assert symbols.resolve(0xFFFFFFFFC0500101) == Site("after+0x1", "after", "evil")
