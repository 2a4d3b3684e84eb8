"""Measurements of fastserve: `python -m bench` beside its peers (see README.md), `bench.micro` of one function."""
