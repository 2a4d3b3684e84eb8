"""Measurements of fastserve: `python -m bench.load.throughput`, and one script for each other figure."""
