"""Classical pipelines: Cell Profiler, Fiji and QuPath, rebuilt step by step."""
