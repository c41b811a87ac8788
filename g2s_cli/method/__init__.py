"""The paper: inversion into W, the shape prior, the three steps and the stages."""
