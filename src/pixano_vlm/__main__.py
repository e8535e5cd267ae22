"""`python -m pixano_vlm`: the same as the `pixano-vlm` command."""

from pixano_vlm.cli import main

if __name__ == "__main__":
    main()
