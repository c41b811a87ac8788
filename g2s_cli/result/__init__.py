"""The result of one photo: its folder (schema, write, read), its mesh, pictures of it, and its web page."""
