"""Pictures of fitted surfaces, and the page that holds them.

Drawing reads values (a surface and the slices that it was fitted to) and changes nothing; figures
are matplotlib objects that belong to the caller.
"""
