"""Networks and their blocks, apart from the methods."""
