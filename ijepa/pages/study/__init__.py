"""The page of a study: tables, figures and words over the runs of an experiment."""
