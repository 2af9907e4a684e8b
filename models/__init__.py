"""What is trained: the grade table, SUAN and its parts, parameter and FLOP accounting."""
