"""One file per method: network, loss, optimiser recipe and method card."""
