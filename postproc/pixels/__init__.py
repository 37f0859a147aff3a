"""Pixel algorithms that know no codec."""
