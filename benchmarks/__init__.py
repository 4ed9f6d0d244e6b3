"""Measurements of speed and quality, most beside a public implementation of the same work."""
