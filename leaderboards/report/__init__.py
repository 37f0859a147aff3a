"""A folder of HTML pages made from stored results, for sharing."""
