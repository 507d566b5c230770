"""Sweeps: each job in a fresh process, stopped and taken up again, searched, told at the end."""
