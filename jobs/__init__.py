"""Entry points; each module's docstring is its manual."""
