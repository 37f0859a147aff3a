"""Getting datasets."""
