"""The command line: one module for each command, with `add(commands)` for its options and `run(arguments)` for its work."""
