"""Copies of published scores in other systems."""
