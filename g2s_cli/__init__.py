"""g2s: one photo in, a relightable 3D shape out, by way of a pretrained 2D GAN."""

__version__ = "0.1.0"
