"""Training models: what people see of a run."""
