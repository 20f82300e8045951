"""From prices to smiles: Black's formula and its inverse, forwards and discount factors, and the
slices of vols, noise and reasons that a chain becomes."""
