"""estimators.gan2shape."""
