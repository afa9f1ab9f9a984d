"""Zones, the reserves in them, and how far it is to the next failure."""

from dashboards.model import Board, Panel, Query, Row
from dashboards.promql import HOST, rate, total

_RESERVES = Row(
    "How far it is to the next failure",
    (
        Panel(
            "Hosts with least order-3 headroom",
            "Blocks of 32 KiB that GFP_ATOMIC could still have. Which of your hosts is next.",
            "At zero, and if a driver there needs order 3: `sysctl vm.compact_memory=1`, then raise min_free_kbytes.",
            (Query(f'bottomk(10, kmwatch_atomic_headroom_blocks{{order="3",{HOST}}})', "{{instance}}"),),
            rules=("KM202", "KM206"),
        ),
        Panel(
            "Atomic headroom by order",
            "Each order on the host that has least of it. A step down that does not come back is fragmentation.",
            "Choose the instance above; *Large allocations and fragmentation* shows who uses the blocks.",
            (Query(f"min by (order) (kmwatch_atomic_headroom_blocks{{{HOST}}})", "order {{order}}"),),
            rules=("KM202", "KM208"),
        ),
        Panel(
            "Order-3 headroom in four hours",
            "The trend of the last hour, drawn on: a host below zero will have none by then.",
            "Compact or reboot such hosts in the next quiet hour, before their network card asks.",
            (
                Query(
                    f'bottomk(10, predict_linear(kmwatch_atomic_headroom_blocks{{order="3",{HOST}}}[1h], 4 * 3600))',
                    "{{instance}}",
                ),
            ),
            rules=("KM202",),
        ),
        Panel(
            "Atomic allocations",
            "What draws on the reserves, by flags: peaks here, with headroom that falls, end in failures.",
            "KM208 names the call sites; GFP_NOWAIT with a fallback does not touch the reserves.",
            (Query(rate("kmwatch_gfp_allocations_total", "gfp", f'gfp=~"GFP_ATOMIC.*",{HOST}'), "{{gfp}}"),),
            unit="cps",
            rules=("KM207", "KM208"),
            quiet="none",
        ),
    ),
)

_ZONES = Row(
    "Zones",
    (
        Panel(
            "Pages by zone",
            "Pages that were allowed one zone and came from a lower one (asked → given): the upper one is short.",
            "Look at the watermarks in /proc/zoneinfo and at what fills zone Normal.",
            (Query(rate("kmwatch_zone_pages_total", "zone_asked, zone"), "{{zone_asked}} → {{zone}}"),),
            unit="cps",
            rules=("KM501", "KM502"),
        ),
        Panel(
            "Zones asked for",
            "DMA and DMA32: small zones that few devices still need.",
            "Point the driver's owner to the DMA API; KM403 has the page.",
            (Query(rate("kmwatch_zone_pages_total", "zone_asked"), "{{zone_asked}}"),),
            unit="cps",
            rules=("KM402", "KM403"),
        ),
        Panel(
            "Free blocks by zone",
            "Blocks of order 3 and more in each zone of each node: an empty Normal beside a full DMA32.",
            "One node empty and another full: the load is bound to a node (numactl, cpusets).",
            (
                Query(
                    f'sum by (instance, node, zone) (kmwatch_free_blocks{{order=~"[3-9]|1.",{HOST}}})',
                    "{{instance}} node {{node}} {{zone}}",
                ),
            ),
            rules=("KM501", "KM503"),
        ),
        Panel(
            "Free blocks now",
            "/proc/buddyinfo of every host that was chosen, where there are any.",
            "Zeros from some order on in every zone: nothing of that order can be had without compaction.",
            (Query(total("kmwatch_free_blocks", "instance, node, zone, order")),),
            shape="table",
            rules=("KM202", "KM503"),
        ),
    ),
)

BOARD = Board(
    "zones",
    "kmwatch: Zones and reserves",
    "Where pages come from, and how many more an interrupt could have.",
    (_RESERVES, _ZONES),
)
