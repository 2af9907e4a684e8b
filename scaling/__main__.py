"""`python -m scaling` is the console script `scaling`."""

from scaling.cli import main

if __name__ == "__main__":
    main()
