"""The embedded category: its training images, its GAN, and the figures that say how good it is."""
