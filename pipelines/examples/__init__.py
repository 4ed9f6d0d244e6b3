"""Typed rows into training examples: vocabulary, point-in-time join, state, files."""
