"""`nucbench speed`: timings of metrics, targets, post-processing, loading and networks on this machine."""
