"""Published networks, rebuilt from their papers and permissively licensed definitions, without weights."""
