"""What made the person network."""
