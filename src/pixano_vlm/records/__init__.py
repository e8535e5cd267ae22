"""What goes in and comes out: manifests, images, results. Knows no model and imports no torch."""
