"""What one run is: its study and data, batches, training, record, serving; and the command line.

Modules directly in this folder are what every room uses, imported by name: errors, strict values, atomic
files, metrics, array types, process set-up. Not here: grids and clusters (`sweeps`), laws (`analysis`).
"""
