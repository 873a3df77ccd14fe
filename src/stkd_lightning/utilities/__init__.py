"""What every part uses: errors, files, randomness, ranks. The package itself imports no torch."""
