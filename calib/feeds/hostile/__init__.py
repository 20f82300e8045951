"""Hostile markets: faults put into quote tables, simulated or recorded, with causes on record.

A fault is a value that says what happens to which quotes from when to when. To put it into a table
is a pure function that keeps the rows and their order."""
