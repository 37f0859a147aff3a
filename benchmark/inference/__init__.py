"""From image to nuclei."""
