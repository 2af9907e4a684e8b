"""One module per data set: what its files hold, as a `Log`; `any_table` takes CSV or Parquet of any layout.

Not here: the steps that all imports share (`scaling.importers.pipeline`).
"""
