"""The model zoo: what a category is, where its weights are, and how foreign checkpoints are read."""
