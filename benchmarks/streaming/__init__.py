"""A logistic regression on more rows than the memory holds, from a Parquet file."""
