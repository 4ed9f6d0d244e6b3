"""The training step and the loop around it: optimizers, checkpoints, warm start."""
