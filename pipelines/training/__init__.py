"""A model trained on published examples, evaluated, and passed or refused by the gate."""
