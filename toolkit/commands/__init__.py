"""Commands of the command line that are not stages, one file each; ``toolkit.cli`` registers them."""
