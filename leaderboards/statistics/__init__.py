"""Statistics of the rows."""
