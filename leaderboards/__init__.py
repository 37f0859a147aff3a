"""Tables, statistics and figures from stored results; importable without torch."""
