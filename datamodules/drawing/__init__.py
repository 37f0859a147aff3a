"""Make training items from images and annotations."""
