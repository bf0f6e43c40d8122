"""NADOO-Video: a world model of a construction site, in less memory than its weights need."""
