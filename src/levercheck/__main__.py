"""`python -m levercheck`."""

from levercheck.cli import main

main()
