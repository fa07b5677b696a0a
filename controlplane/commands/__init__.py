"""The bodies of the commands, one module each: what `controlplane.cli` and `controlplane.cli_studies` parse ends here."""
