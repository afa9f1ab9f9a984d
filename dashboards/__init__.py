"""Grafana dashboards, Prometheus alerts and recording rules; `python -m dashboards.build` writes the JSON files."""
