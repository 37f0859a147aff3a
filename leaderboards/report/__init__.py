"""A folder of HTML pages made from stored results, to be sent to colleagues."""
