"""Side-by-side benchmarks that anyone can rerun: `python -m bench --help`."""
