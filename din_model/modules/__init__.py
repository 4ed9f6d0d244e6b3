"""Layers of the model: activation unit, interest encoders, embedding tables, DIN."""
