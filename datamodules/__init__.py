"""One file per dataset: index, reader, splits and dataset card."""
