"""Classical pipelines in a folder of their own."""
