"""Tests with a real Prometheus on loopback."""
