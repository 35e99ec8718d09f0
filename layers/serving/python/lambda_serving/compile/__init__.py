"""What needs all of TensorFlow: this package alone imports it, in processes of its own."""
