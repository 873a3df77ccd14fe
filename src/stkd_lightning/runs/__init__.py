"""What the commands do once their configuration is found right; only here and in ``cli`` is Hydra used."""
