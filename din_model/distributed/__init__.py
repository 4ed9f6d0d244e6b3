"""What the ranks of a training share: collectives, memory of one machine, malloc settings."""
