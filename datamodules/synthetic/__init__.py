"""Simulation of H&E images."""
