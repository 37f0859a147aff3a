"""The subcommands of `nucbench`: signatures and docstrings make the help, heavy imports stay inside the functions."""
