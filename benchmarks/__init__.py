"""Measurements, each beside a public implementation of the same work."""
