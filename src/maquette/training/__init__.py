"""Training any torch model that gives a loss: arguments, data, checkpoints, evaluation, and the loop."""
