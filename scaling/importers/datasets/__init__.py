"""One module per data set, which describes its files as a `Log`; `any_table` reads CSV or Parquet of any layout.

Not here: the steps that all imports share (`scaling.importers.pipeline`).
"""
