"""Who may do what, and how much of it: identities, rights, limits, and the gate that asks."""
