"""Force matching: from a data set and priors to the parameters of a model."""
