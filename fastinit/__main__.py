"""``python -m fastinit`` is the command line."""

from fastinit_command import main

if __name__ == "__main__":
    main()
