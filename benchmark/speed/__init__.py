"""`nucbench speed`: what metrics, targets, post-processing, loading and networks cost on this machine."""
