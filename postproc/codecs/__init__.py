"""One file per codec, apart from what they build on."""
