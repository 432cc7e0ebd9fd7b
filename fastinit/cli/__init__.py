"""The command line ``fastinit``: one file a command, on the package click.

Imports every other room; nothing imports it but ``fastinit_command``. To add a command, write a file with a click
``command`` of that name, its options and lines from `shared`, and add it to the group in `main`, which turns any error
into one line on standard error. What takes long to import (plots, tables) is imported where it is used.
"""
