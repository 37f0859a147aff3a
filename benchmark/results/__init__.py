"""What runs and predictions leave on disk."""
