"""Synthetic pairs of image and depth for photos of real people: shapes of the ICT face model, looks of portraits."""
