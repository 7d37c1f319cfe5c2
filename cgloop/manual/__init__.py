"""Pages of the documentation that are generated from declarations: config keys and limits."""
