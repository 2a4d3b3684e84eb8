"""From the results of a run to what a person reads: a table, plots, and the figures of bench/README.md."""
