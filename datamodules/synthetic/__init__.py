"""The simulation of H&E images in a folder of its own."""
