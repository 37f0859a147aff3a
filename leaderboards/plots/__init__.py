"""Pictures of stored results and predictions."""
