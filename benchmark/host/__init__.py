"""Hardware, files, signals and console output."""
