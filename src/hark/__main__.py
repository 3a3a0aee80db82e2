"""`python -m hark` is `hark`."""

from hark.cli.main import main

if __name__ == "__main__":
    main()
