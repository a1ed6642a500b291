"""The result schema, and tables of results in it: as Polars frames and as Parquet files."""
