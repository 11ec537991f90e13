"""Draw the plots of a diagnosis, as inline SVG for the page."""
