"""Names of the energy terms, in the order in which every table and file lists them. Nothing is imported here."""

PRIOR_TERM_NAMES = ("bond", "angle", "dihedral", "repulsion", "electrostatics", "contact")
TERM_NAMES = (*PRIOR_TERM_NAMES, "ml")
