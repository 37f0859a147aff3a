"""The subcommands of `nucbench`: signatures and docstrings become the help; heavy imports stay inside functions."""
