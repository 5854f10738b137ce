"""`python -m unipet` is the command `unipet`."""

from unipet import main

main()
