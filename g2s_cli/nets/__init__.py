"""nn.Modules only: no files, no devices, no knowledge of scenes."""
