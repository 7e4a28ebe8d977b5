"""What makes a program of the networks: data, training, tiles, files, figures."""
