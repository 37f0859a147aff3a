"""One file per table of the literature."""
