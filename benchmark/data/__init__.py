"""Download, unpack and check datasets."""
