"""The subcommands of `nucbench`, one function each: signatures and docstrings make the help, heavy imports stay inside."""
