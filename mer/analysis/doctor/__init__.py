"""`mer doctor`: what is wrong with a corpus before a model finds out. See `mer.analysis.doctor.command`."""
