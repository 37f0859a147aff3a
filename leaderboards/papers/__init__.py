"""Tables of the literature, one file each."""
