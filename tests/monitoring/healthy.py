"""Queries of the dashboards that have no data on a healthy host, each with the fault that gives them some."""

EMPTY_WHEN_HEALTHY = {
    ("kmwatch: Overview", "Findings"): "sleeping in atomic context",
    ("kmwatch: Overview", "Sleeping in atomic context"): "sleeping in atomic context",
    ("kmwatch: Atomic context and failures", "Sleeping in atomic context, by call site"): "sleeping in atomic context",
    ("kmwatch: Atomic context and failures", "Sleeping in atomic context, over time"): "sleeping in atomic context",
    ("kmwatch: Atomic context and failures", "Real failures by call site"): "failures",
    ("kmwatch: Atomic context and failures", "Failures by order and context"): "failures",
    ("kmwatch: Large allocations and fragmentation", "Failed tries of large blocks"): "failures",
    ("kmwatch: Large allocations and fragmentation", "Large kmallocs by call site"): "large allocations",
    ("kmwatch: Large allocations and fragmentation", "Large kmallocs so far"): "large allocations",
    ("kmwatch: Zones and reserves", "Atomic allocations"): "failures",
}
"""(dashboard, panel) -> fault. Nothing else may be empty, and none of these once its fault was forced."""
