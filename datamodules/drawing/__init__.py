"""What turns images into training items, apart from the datasets."""
