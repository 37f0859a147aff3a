"""Files that runs and predictions write."""
