"""The `portkit` command: argument parsing and printing only; nothing imports it."""
