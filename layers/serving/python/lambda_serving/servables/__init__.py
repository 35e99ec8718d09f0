"""A folder with a SavedModel becomes a `Servable`: named functions, arrays in, arrays out."""
