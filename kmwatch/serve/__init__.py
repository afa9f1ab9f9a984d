"""The service: kmwatch always on, for Prometheus to scrape."""
