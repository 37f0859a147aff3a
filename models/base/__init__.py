"""What every method builds on, apart from the methods."""
