"""Cut slides into tiles."""
