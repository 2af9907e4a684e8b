"""What is trained: the ladder of grades, SUAN and LightSUAN, counts of parameters and FLOPs, the scorer.

`grades`, `input_schema`, `model_options`, `sparse_pattern` and `accounting` work without torch. Not here:
files, studies, training (`scaling`). Modules directly in this folder are imported by name.
"""
