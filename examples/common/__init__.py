"""What the reference pipelines share: everything that is not an operator of the library."""
