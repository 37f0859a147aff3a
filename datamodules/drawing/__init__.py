"""From images and annotation to training items."""
