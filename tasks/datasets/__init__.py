"""Where data come from: embedded files, NPZ and text files, TensorFlow Datasets, generated text."""
