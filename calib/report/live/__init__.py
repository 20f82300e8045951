"""The live page: what a server says now, as a value, as pictures, and in a browser."""
