"""``python -m wharfinger``."""

from wharfinger.cli import main

if __name__ == "__main__":
    main()
