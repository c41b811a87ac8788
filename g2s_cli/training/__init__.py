"""Training: one loop (`trainer`), and on it GANs (`gan`) and the joint networks of a category (`pretraining`)."""
