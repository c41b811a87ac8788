"""Stateless geometry and light: cameras, surfaces, warps, shading. No networks."""
